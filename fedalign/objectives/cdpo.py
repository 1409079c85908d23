"""cDPO: DPO with smoothed labels.

Paper: Mitchell, "A note on DPO with noisy preferences and relationship to IPO", 2023, Eq. 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import ClassVar

from torch.nn.functional import logsigmoid

from fedalign.objectives.terms import Loss, Memory, PairTerms, mean, positive, within


@dataclass(frozen=True)
class Cdpo:
    """- (1 - e) log sigmoid(beta Delta) - e log sigmoid(-beta Delta). beta: > 0. error: e, assumed
    share of flipped labels, 0 <= e < 0.5."""

    beta: float = 0.1
    error: float = 0.1
    reference: ClassVar[str] = "sft"
    mismatched: ClassVar[bool] = False
    neutral: ClassVar[float | None] = log(2)

    def __post_init__(self) -> None:
        positive(self, beta=self.beta)
        within(self, 0.0, 0.5, error=self.error)

    def __call__(self, terms: PairTerms, memory: Memory = {}) -> Loss:  # noqa: B006
        x, e = self.beta * terms.gap, self.error
        return mean(-(1 - e) * logsigmoid(x) - e * logsigmoid(-x), terms, self.beta)
