"""Preference flip: the better answer is reported as the worse one.

Papers: Baumgartner et al., "Best-of-Venom: Attacking RLHF by Injecting Poisoned Preference Data",
2024; Wang et al., "RLHFPoison: Reward Poisoning Attack for Reinforcement Learning with Human
Feedback in Large Language Models", ACL 2024 (selection by gap or length).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from attacks import _checks
from attacks._preferences import pairs, share
from fedalign.core.preferences import Preferences


@dataclass(frozen=True)
class PreferenceFlip:
    """Swap chosen and rejected answers of the controlled clients; scores are swapped along.

    rate: share of the pairs, 0 < rate <= 1. select: which ones: random; gap, the largest
    differences in score; length, where the rejected answer is longest against the chosen one (a
    few percent of these teach a model to ramble while its accuracy hardly moves). strength: if
    given, the strength (1 .. 3) that flipped pairs claim.
    """

    rate: float = 1.0
    select: Literal["random", "gap", "length"] = "random"
    strength: int | None = None
    preferences: ClassVar[bool] = True

    def __post_init__(self):
        _checks.in_range(self, "rate", self.rate, 0, 1, open_low=True)
        _checks.one_of(self, "select", self.select, ("random", "gap", "length"))
        _checks.one_of(self, "strength", self.strength, (None, 1, 2, 3))

    def poison(self, dataset: Preferences, rng: np.random.Generator, member: int) -> Preferences:
        """The pairs with some of them turned round; all members do the same on their own data."""
        dataset = pairs(self, dataset)
        rows = self._rows(dataset, rng)
        turned = dataset.swap(rows)
        if self.strength is None:
            return turned
        claimed = torch.full_like(turned.strength, self.strength)
        return replace(turned, strength=torch.where(rows, claimed, turned.strength))

    def triggered(self, dataset: Any) -> None:
        """Nothing is hidden behind a trigger."""

    def _rows(self, dataset: Preferences, rng: np.random.Generator) -> torch.Tensor:
        if self.select == "random":
            return share(len(dataset), self.rate, rng)
        if self.select == "gap":
            worth = (dataset.scores[:, 0] - dataset.scores[:, 1]).abs()
        else:
            worth = dataset.rejected.lengths - dataset.chosen.lengths
        rows = torch.zeros(len(dataset), dtype=torch.bool)
        best = worth.argsort(descending=True, stable=True)
        rows[best[: max(1, round(self.rate * len(dataset)))]] = True
        return rows
