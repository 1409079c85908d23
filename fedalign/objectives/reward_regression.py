"""Regression reward models: predict each attribute's rating.

Paper: Wang et al., "HelpSteer2: Open-source dataset for training top-performing reward models",
NeurIPS 2024, Section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from fedalign.objectives.terms import Loss, RewardObjective, pooled

MISSING = -100.0


@dataclass(frozen=True)
class RewardRegression(RewardObjective):
    """sum over known labels of (prediction - label)^2 / their number. pool: what the head reads,
    last, the state at the answer's last token, or mean, over its tokens."""

    pool: Literal["last", "mean"] = "last"

    learns_ratings: ClassVar[bool] = True

    def __post_init__(self) -> None:
        pooled(self, self.pool)

    def __call__(self, predictions: Tensor, labels: Tensor) -> Loss:
        """predictions, labels: (B, A); a label of -100 is unknown. Items: (B,), per answer."""
        known = (labels != MISSING).to(predictions.dtype)
        errors = known * (predictions - labels.to(predictions.dtype)).square()
        items = errors.sum(dim=1) / known.sum(dim=1).clamp(min=1)
        value = errors.sum() / known.sum().clamp(min=1)
        absolute = (known * (predictions - labels).abs()).sum() / known.sum().clamp(min=1)
        return Loss(value, items, {"rm_attr_mae": float(absolute.detach())})
