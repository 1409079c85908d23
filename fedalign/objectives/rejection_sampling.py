"""Rejection sampling: keep the best answers of each prompt and imitate them.

Papers: Touvron et al., "Llama 2: Open Foundation and Fine-Tuned Chat Models", 2023, Section 3.2.3;
Beirami et al., "Theoretical guarantees on the best-of-n alignment policy", 2024 (the KL bound).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import ClassVar

from torch import Tensor

from fedalign.core.errors import ConfigError
from fedalign.objectives.climber import Climber


@dataclass(frozen=True)
class RejectionSampling(Climber):
    """keep: answers that stay per prompt, 1 .. answers. answers: >= 2, drawn per prompt from the
    model that a round begins with; those kept are imitated by cross-entropy. What the best are
    chosen by: see Climber."""

    keep: int = 1
    answers: int = 8
    reference: ClassVar[str] = "none"
    mismatched: ClassVar[bool] = False
    neutral: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep < 1:
            raise ConfigError(f"RejectionSampling.keep must be 1 or more, got {self.keep}.")
        if self.answers < 2 or self.keep > self.answers:
            raise ConfigError(
                "RejectionSampling.answers must be 2 or more and at least keep, got "
                f"{self.answers} and keep={self.keep}."
            )

    def __call__(self, rewards: Tensor, prompts: Tensor) -> Tensor:
        """rewards: (N,). prompts: (N,) ids; equal texts of different ids are different prompts.
        Returns (N,) bool, true on the kept answers; ties go to the earlier one."""
        kept = rewards.new_zeros(len(rewards)).bool()
        for prompt in prompts.unique().tolist():
            rows = (prompts == prompt).nonzero()[:, 0]
            best = rewards[rows].argsort(descending=True, stable=True)[: self.keep]
            kept[rows[best]] = True
        return kept


def best_of_kl(count: int) -> float:
    """Upper bound log n - (n - 1) / n of KL(best of n || policy); n >= 1."""
    if count < 1:
        raise ConfigError(f"Best of n needs n >= 1, got {count}.")
    return log(count) - (count - 1) / count
