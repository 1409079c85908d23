"""KTO: single answers, desirable or not, valued as prospect theory says people do.

Paper: Ethayarajh et al., "KTO: Model Alignment as Prospect Theoretic Optimization", ICML 2024,
Eqs. 7-8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedalign.core.errors import ConfigError
from fedalign.objectives.terms import Loss, Memory, PairTerms, implicit, positive


@dataclass(frozen=True)
class Kto:
    """lambda (1 - sigma(+-beta (r - z0))), r the log-ratio of an answer, z0 the batch's KL.

    beta: > 0. desirable, undesirable: lambda_D, lambda_U > 0. On pairs, every chosen answer is a
    desirable one and every rejected answer an undesirable one; z0 comes from mismatched prompts.
    """

    beta: float = 0.1
    desirable: float = 1.0
    undesirable: float = 1.0
    reference: ClassVar[str] = "sft"
    mismatched: ClassVar[bool] = True
    neutral: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        positive(self, beta=self.beta, desirable=self.desirable, undesirable=self.undesirable)

    def __call__(self, terms: PairTerms, memory: Memory = {}) -> Loss:  # noqa: B006
        if terms.mismatched is None:
            raise ConfigError("Kto needs log-ratios of mismatched answers: pass `mismatched`.")
        chosen = terms.chosen - terms.chosen_reference
        rejected = terms.rejected - terms.rejected_reference
        good = torch.cat([torch.ones_like(chosen), torch.zeros_like(rejected)]).bool()
        found = self.unpaired(torch.cat([chosen, rejected]), good, terms.mismatched)
        return Loss(found.value, found.items, {**implicit(terms, self.beta), **found.metrics})

    def unpaired(self, ratios: Tensor, desirable: Tensor, mismatched: Tensor) -> Loss:
        """ratios: (N,) log pi - log ref. desirable: (N,) bool. mismatched: (M,) log-ratios of
        answers after other prompts, M >= 2. A batch of one class is fine."""
        if len(mismatched) < 2:
            raise ConfigError(
                f"Kto estimates a KL from a batch of at least 2 answers, got {len(mismatched)}."
            )
        zero = mismatched.detach().mean().clamp(min=0)
        sign = torch.where(desirable, 1.0, -1.0).to(ratios.dtype)
        weight = torch.where(desirable, self.desirable, self.undesirable).to(ratios.dtype)
        items = weight * torch.sigmoid(-sign * self.beta * (ratios - zero))
        return Loss(items.mean(), items, {"kl_estimate": float(zero)})
