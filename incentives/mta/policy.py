"""MTA policy: the learned scorer decides task after task, and the best of some tries counts.

Paper: none; our choice within arXiv 2208.05120's setting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.mta.assignment import Assignment
from incentives.mta.features import Problems
from incentives.mta.instance import REJECTED, MTAInstance
from incentives.mta.playout import Playout
from incentives.mta.scorer import MTAScorer


@dataclass(frozen=True)
class MTAPolicy:
    """Tasks by falling price; one try takes the best scores, `samples` more draw from them.

    scorer: trained by Reinforce. samples: >= 0; 0 needs no randomness and is equivariant.
    """

    scorer: MTAScorer
    samples: int = 64

    def __post_init__(self):
        if self.samples < 0:
            raise ConfigError(f"MTA policy: samples must be 0 or more, got {self.samples}.")

    def __call__(self, instance: MTAInstance, rng: np.random.Generator | None = None) -> Assignment:
        m, n = instance.tasks, instance.servers
        noise = np.zeros((m, 1, 1 + self.samples, n + 1), dtype=np.float32)
        if self.samples:
            if rng is None:
                raise ConfigError("MTA policy: samples above 0 need an rng.")
            noise[:, :, 1:] = rng.gumbel(size=(m, 1, self.samples, n + 1))
        problems = Problems.of([instance])
        played = Playout.of(self.scorer, problems, noise, keep=False)
        actions = played.actions[:, 0, played.earned[0].argmax()].numpy()  # (m,) in price order
        server = np.empty(m, dtype=np.int64)
        server[problems.order[0].numpy()] = np.where(actions == n, REJECTED, actions)
        return Assignment(instance, server)
