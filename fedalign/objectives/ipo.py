"""IPO: regress the log-ratio gap on a constant, so that certain preferences cannot push forever.

Paper: Azar et al., "A General Theoretical Paradigm to Understand Learning from Human Preferences",
AISTATS 2024, Eq. 17.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedalign.core.errors import ConfigError
from fedalign.objectives.terms import Loss, Memory, PairTerms, mean, positive


@dataclass(frozen=True)
class Ipo:
    """(D - 1 / (2 beta))^2. beta: > 0. normalise: token, D of per-token averages (as the authors'
    and trl's code), or sum, D = Delta (as the formula is printed)."""

    beta: float = 0.1
    normalise: Literal["token", "sum"] = "token"

    reference = "sft"
    mismatched = False

    def __post_init__(self) -> None:
        positive(self, beta=self.beta)
        if self.normalise not in ("token", "sum"):
            raise ConfigError(f"Ipo.normalise must be token or sum, got {self.normalise!r}.")

    @property
    def neutral(self) -> float | None:
        return 1 / (4 * self.beta**2)

    def __call__(self, terms: PairTerms, memory: Memory = {}) -> Loss:  # noqa: B006
        gap = terms.gap
        if self.normalise == "token":
            if terms.chosen_tokens is None or terms.rejected_tokens is None:
                raise ConfigError("Ipo per token needs the lengths of both answers.")
            chosen = (terms.chosen - terms.chosen_reference) / terms.chosen_tokens
            gap = chosen - (terms.rejected - terms.rejected_reference) / terms.rejected_tokens
        return mean((gap - 1 / (2 * self.beta)).square(), terms, self.beta)
