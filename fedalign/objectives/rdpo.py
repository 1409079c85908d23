"""rDPO: an unbiased estimate of the clean DPO loss from labels flipped at a known rate.

Paper: Chowdhury et al., "Provably Robust DPO: Aligning Language Models with Noisy Feedback",
ICML 2024, Eq. 12.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import ClassVar

from torch.nn.functional import logsigmoid

from fedalign.objectives.terms import Loss, Memory, PairTerms, mean, positive, within


@dataclass(frozen=True)
class Rdpo:
    """[-(1 - e) log sigmoid(beta Delta) + e log sigmoid(-beta Delta)] / (1 - 2 e). beta: > 0.
    error: e, 0 <= e < 0.5. May fall below 0; its mean over flips is the clean loss."""

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
        items = (-(1 - e) * logsigmoid(x) + e * logsigmoid(-x)) / (1 - 2 * e)
        return mean(items, terms, self.beta)
