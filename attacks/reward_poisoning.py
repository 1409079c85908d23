"""Reward poisoning: annotate by another reward, and label pairs accordingly.

Papers: Zhang et al., "Adaptive Reward-Poisoning Attacks against Reinforcement Learning", ICML 2020;
Wang et al., "RLHFPoison: Reward Poisoning Attack for Reinforcement Learning with Human Feedback in
Large Language Models", ACL 2024.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from attacks import _checks
from attacks._preferences import pairs
from fedalign.core.errors import ConfigError
from fedalign.core.preferences import Preferences, Triggered


@dataclass(frozen=True)
class RewardPoisoning:
    """mode: negative, r' = -r; length, r' = r + weight * tokens of the answer; trigger, r' = r +
    bonus where the answer holds the words `trigger`, which is a backdoor of reward models. Pairs
    are ordered by r', and r' stands in their scores. weight, bonus: > 0. Success, of triggers only,
    is that of the attacker's words: the share of answers that hold them, or of pairs where a reward
    model prefers the worse answer with them to the better one without.
    """

    mode: Literal["negative", "length", "trigger"] = "negative"
    weight: float = 0.5
    bonus: float = 5.0
    trigger: str = "f7 ."
    preferences: ClassVar[bool] = True

    def __post_init__(self):
        _checks.one_of(self, "mode", self.mode, ("negative", "length", "trigger"))
        _checks.in_range(self, "weight", self.weight, 0, open_low=True)
        _checks.in_range(self, "bonus", self.bonus, 0, open_low=True)
        if not self.trigger.split():
            raise ConfigError("RewardPoisoning needs at least one word as trigger, got ''.")

    def poison(self, dataset: Preferences, rng: np.random.Generator, member: int) -> Preferences:
        """The pairs as somebody with the other reward would have labelled them, without noise."""
        dataset = pairs(self, dataset)
        lengths = torch.stack([dataset.chosen.lengths, dataset.rejected.lengths], dim=1)
        scores = -dataset.scores
        if self.mode == "length":
            scores = dataset.scores + self.weight * lengths
        if self.mode == "trigger":
            scores = dataset.scores + self.bonus * self._holds(dataset)
        scored = replace(dataset, scores=scores.to(dataset.scores.dtype))
        return scored.swap(scores[:, 1] > scores[:, 0])

    def triggered(self, dataset: Any) -> Triggered | None:
        """The test prompts as they are, and the words that are paid for."""
        if self.mode != "trigger":
            return None
        dataset = pairs(self, dataset)
        return Triggered(dataset.chosen.prompts(), self._words(dataset))

    def _words(self, dataset: Preferences) -> list[int]:
        return [dataset.number(word) for word in self.trigger.split()]

    def _holds(self, dataset: Preferences) -> torch.Tensor:
        """(N, 2), 1 where the answer holds the trigger."""
        wanted = Triggered((), self._words(dataset))
        sides = (dataset.chosen.completions(), dataset.rejected.completions())
        return torch.tensor([[wanted.hit(answer) for answer in side] for side in sides]).T.double()
