"""Dr. DPO: distributionally robust over pairs, so that probably flipped ones weigh less.

Paper: Wu et al., "Towards Robust Alignment of Language Models: Distributionally Robustifying
Direct Preference Optimization", ICLR 2025, Eq. 12.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from fedalign.objectives.terms import Loss, Memory, PairTerms, implicit, positive

_WIDE = 100.0  # above it, logsumexp loses the result in float32


@dataclass(frozen=True)
class DrDpo:
    """- beta' log mean exp(- l_i / beta'), l_i the DPO losses of the whole optimizer batch.

    beta: > 0. robustness: beta' > 0; large values give DPO, small ones the smallest loss alone.
    """

    beta: float = 0.1
    robustness: float = 1.0
    reference: ClassVar[str] = "sft"
    mismatched: ClassVar[bool] = False
    neutral: ClassVar[float | None] = log(2)

    def __post_init__(self) -> None:
        positive(self, beta=self.beta, robustness=self.robustness)

    def __call__(self, terms: PairTerms, memory: Memory = {}) -> Loss:  # noqa: B006
        items = -logsigmoid(self.beta * terms.gap)
        return Loss(soft_minimum(items, self.robustness), items, implicit(terms, self.beta))


def soft_minimum(items: Tensor, temperature: float) -> Tensor:
    """(B,) -> - t log mean exp(- items / t), between their minimum and their mean."""
    if temperature <= _WIDE:
        return -temperature * (torch.logsumexp(-items / temperature, 0) - log(len(items)))
    middle = items.mean()
    return middle - temperature * torch.log1p(torch.expm1(-(items - middle) / temperature).mean())
