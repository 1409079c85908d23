"""A lesson: all that a client's local steps may use in one round, whatever the objective."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedalign.core.preferences import Preferences, Sequences
from fedalign.core.seeds import Seeds
from fedalign.data.graded_preferences import GradedFacts
from fedalign.objectives.terms import Loss, Memory
from fedalign.training.flat import FlatModel
from fedalign.training.online import Reward
from fedalign.training.rollout import Rollout
from fedalign.training.sequences import logps
from fedalign.training.tuning import Tuning

Step = Callable[[int, Tensor, Memory], Loss]
"""(step, rows of the client's data, the objective's memory) -> Loss, with .grad filled."""


@dataclass(frozen=True)
class Lesson:
    """flat: the model, its weights those of the last step. objective: what is followed. pairs: what
    the client holds. reward: what it thinks answers are worth. ratings: (2, N, 5), what its raters
    say of chosen and rejected answers. truths: the data's own answer to each of its prompts.
    teacher: (d,), weights to learn from. start: (d,), weights that the round began with. round:
    1 .. rounds.
    """

    flat: FlatModel
    data: GradedFacts
    pairs: Preferences
    objective: Any
    tuning: Tuning
    rollout: Rollout
    reward: Reward
    ratings: Callable[[], Tensor]
    truths: Callable[[], list[list[int]]]
    teacher: Callable[[], Tensor]
    start: Tensor
    seeds: Seeds
    client: int
    round: int
    rounds: int

    @property
    def module(self) -> nn.Module:
        """The model; has `disable_adapter`."""
        return self.flat.module

    def rng(self, purpose: str, step: int = 0) -> np.random.Generator:
        """The numbers of a purpose in a step of this round of this client."""
        return self.seeds.at(purpose, round=self.round, client=self.client, step=step)

    def prompts(self, rows: Tensor) -> list[list[int]]:
        """The prompts of these rows."""
        return self.pairs.chosen.take(rows).prompts()

    def there(self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]):
        """Sequences on the model's device."""
        made = Sequences.of(prompts, answers)
        device = self.flat.vector.device
        return Sequences(*(x.to(device) for x in vars(made).values()))

    @contextmanager
    def standing(self, vector: Tensor) -> Iterator[nn.Module]:
        """The model with other weights (d,), for a while."""
        now = self.flat.vector.clone()
        self.flat.load(vector)
        try:
            yield self.module
        finally:
            self.flat.load(now)

    def drawn(
        self,
        prompts: Sequence[Sequence[int]],
        purpose: str,
        step: int,
        rollout: Rollout | None = None,
    ) -> list[list[int]]:
        """One answer to each prompt by the model that the round began with; never empty."""
        with self.standing(self.start) as module:
            return (rollout or self.rollout)(module, prompts, self.rng(purpose, step))


def imitate(lesson: Lesson, rows: Sequences, weights: Tensor | None = None) -> Loss:
    """Add the gradient of weighted cross-entropy - sum_i u_i log pi(y_i) / sum_i u_i |y_i| to .grad.
    weights: u >= 0, (N,), 1 if not given."""
    weights = torch.ones(len(rows), device=rows.ends.device) if weights is None else weights
    total = (weights * rows.lengths).sum().clamp(min=1e-8)
    items = torch.zeros(len(rows), device=rows.ends.device)
    for part in rows.ends.argsort(stable=True).split(lesson.tuning.chunk):
        values = logps(lesson.module, rows.take(part), lesson.tuning.chunk)
        (-(weights[part] * values).sum() / total).backward()
        items[part] = -values.detach()
    return Loss((weights * items).sum() / total, items)
