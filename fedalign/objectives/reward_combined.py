"""Reward recipe: learn to rate helpfulness, then go on from there with scaled Bradley-Terry.

Paper: Wang et al., "HelpSteer2-Preference: Complementing Ratings with Preferences", 2024, Section 4
(its third step, extrapolation of weights, is algorithm=extrapolation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from fedalign.core.errors import ConfigError
from fedalign.objectives.reward_bradley_terry import RewardBradleyTerry
from fedalign.objectives.reward_regression import RewardRegression
from fedalign.objectives.terms import Loss, RewardObjective, pooled


@dataclass(frozen=True)
class RewardCombined(RewardObjective):
    """One score per answer. rating_rounds: >= 1, in which it is fitted to the answer's helpfulness
    (0 .. 4) by regression; later rounds follow -m log sigma(r_w - r_l). pool: as of
    RewardRegression."""

    rating_rounds: int = 2
    pool: Literal["last", "mean"] = "last"

    learns_ratings: ClassVar[bool] = True

    def __post_init__(self) -> None:
        pooled(self, self.pool)
        if self.rating_rounds < 1:
            raise ConfigError(
                f"RewardCombined.rating_rounds must be 1 or more, got {self.rating_rounds}."
            )

    def rates(self, round: int) -> bool:
        """Whether a round, counted from 1, is one of regression."""
        return round <= self.rating_rounds

    def rated(self, predictions: Tensor, helpfulness: Tensor) -> Loss:
        """predictions, helpfulness: (B, 1)."""
        return RewardRegression()(predictions, helpfulness)

    def __call__(self, chosen: Tensor, rejected: Tensor, strength: Tensor | None = None) -> Loss:
        """chosen, rejected: (B,) rewards. strength: (B,) in 1 .. 3."""
        return RewardBradleyTerry("scaled")(chosen, rejected, strength)
