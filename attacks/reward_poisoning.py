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
from fedalign.core.preferences import Preferences


@dataclass(frozen=True)
class RewardPoisoning:
    """mode: negative, r' = -r; length, r' = r + weight * tokens of the answer. Pairs are ordered by
    r', and r' stands in their scores. weight: > 0."""

    mode: Literal["negative", "length"] = "negative"
    weight: float = 0.5
    preferences: ClassVar[bool] = True

    def __post_init__(self):
        _checks.one_of(self, "mode", self.mode, ("negative", "length"))
        _checks.in_range(self, "weight", self.weight, 0, open_low=True)

    def poison(self, dataset: Preferences, rng: np.random.Generator, member: int) -> Preferences:
        """The pairs as somebody with the other reward would have labelled them, without noise."""
        dataset = pairs(self, dataset)
        lengths = torch.stack([dataset.chosen.lengths, dataset.rejected.lengths], dim=1)
        scores = -dataset.scores
        if self.mode == "length":
            scores = dataset.scores + self.weight * lengths
        scored = replace(dataset, scores=scores.to(dataset.scores.dtype))
        return scored.swap(scores[:, 1] > scores[:, 0])

    def triggered(self, dataset: Any) -> None:
        """Nothing is hidden behind a trigger."""
