"""Hinge: stop pushing a pair once its margin is 1.

Paper: Zhao et al., "SLiC-HF: Sequence Likelihood Calibration with Human Feedback", 2023, Eq. 3, on
implicit rewards as in Liu et al., "Statistical Rejection Sampling Improves Preference
Optimization", ICLR 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedalign.objectives.terms import Loss, Memory, PairTerms, mean, positive


@dataclass(frozen=True)
class Hinge:
    """max(0, 1 - beta Delta). beta: > 0."""

    beta: float = 0.1
    reference: ClassVar[str] = "sft"
    mismatched: ClassVar[bool] = False
    neutral: ClassVar[float | None] = 1.0

    def __post_init__(self) -> None:
        positive(self, beta=self.beta)

    def __call__(self, terms: PairTerms, memory: Memory = {}) -> Loss:  # noqa: B006
        return mean((1 - self.beta * terms.gap).clamp(min=0), terms, self.beta)
