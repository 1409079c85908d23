"""REINFORCE for MTA: make likelier what earned more than the other tries at the same instance.

Paper: Williams, "Simple statistical gradient-following algorithms", Machine Learning 1992; the
mean of the tries as baseline. Deviations from the usual settings, each from
measurement: half its batch, ten times its learning rate under a one-cycle schedule, a tenth of its
entropy bonus; the scorer starts as the greedy rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fedalign.core.errors import ConfigError
from incentives.mta.features import Problems
from incentives.mta.generator import MTAGenerator
from incentives.mta.heuristics.greedy import Greedy
from incentives.mta.playout import Playout
from incentives.mta.scorer import MTAScorer

LOSS_SCALE = 0.1  # keeps the gradient of a whole episode near the clipping norm
CLIP = 1.0


@dataclass(frozen=True)
class Reinforce:
    """Train a scorer on instances generated afresh for every update.

    generator: the size to train on. updates: >= 1. instances: per update, >= 1.
    rollouts: tries per instance, >= 2. learning_rate: Adam's peak, > 0. entropy: weight of the
    mean entropy of a decision, >= 0. hidden: width of the scorer, >= 1.
    """

    generator: MTAGenerator = MTAGenerator()
    updates: int = 400
    instances: int = 16
    rollouts: int = 16
    learning_rate: float = 3e-3
    entropy: float = 1e-3
    hidden: int = 32

    def __post_init__(self):
        least = {"updates": 1, "instances": 1, "rollouts": 2, "hidden": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(
                    f"Reinforce: {name} must be {low} or more, got {getattr(self, name)}."
                )
        if not self.learning_rate > 0 or not self.entropy >= 0:
            raise ConfigError(
                f"Reinforce: learning_rate must be above 0 and entropy 0 or more, got "
                f"{self.learning_rate} and {self.entropy}."
            )

    def __call__(self, rng: np.random.Generator) -> tuple[MTAScorer, list[float]]:
        """The trained scorer, and per update what a try earns, over what Greedy by price earns."""
        scorer = MTAScorer(self.hidden, rng)
        optimiser = torch.optim.Adam(scorer.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self.learning_rate, total_steps=self.updates + 1
        )
        history = []
        generator = self.generator
        for _ in range(self.updates):
            instances = [generator(rng) for _ in range(self.instances)]
            problems = Problems.of(instances)
            shape = (generator.tasks, self.instances, self.rollouts, generator.servers + 1)
            noise = rng.gumbel(size=shape).astype(np.float32)
            played = Playout.of(scorer, problems, noise, keep=True)
            optimiser.zero_grad()
            self._loss(scorer, played).backward()
            nn.utils.clip_grad_norm_(scorer.parameters(), CLIP)
            optimiser.step()
            schedule.step()
            rival = np.mean([Greedy("price")(i).value / i.unit for i in instances])
            history.append(float(played.earned.mean() / max(rival, 1e-12)))
        return scorer.eval(), history

    def _loss(self, scorer: MTAScorer, played: Playout) -> Tensor:
        better = played.earned - played.earned.mean(dim=1, keepdim=True)  # (I, R)
        advantage = (better / better.std().clamp(min=1e-6)).float()
        logs = scorer(played.features, played.feasible).log_softmax(dim=-1)  # (m, I, R, n + 1)
        chosen = logs.gather(-1, played.actions[..., None])[..., 0].sum(dim=0)  # (I, R)
        entropy = -(logs.exp() * logs).sum(dim=-1).mean()
        return -LOSS_SCALE * (advantage * chosen).mean() - self.entropy * entropy
