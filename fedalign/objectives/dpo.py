"""DPO: the reward model is the policy's own log-ratio to a reference.

Paper: Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a Reward
Model", NeurIPS 2023, Eq. 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import ClassVar

from torch.nn.functional import logsigmoid

from fedalign.objectives.terms import Loss, Memory, PairTerms, mean, positive


@dataclass(frozen=True)
class Dpo:
    """- log sigmoid(beta Delta). beta: > 0, how dear it is to leave the reference; 0.1 for large
    models, 0.5 for the tiny one."""

    beta: float = 0.1
    reference: ClassVar[str] = "sft"
    mismatched: ClassVar[bool] = False
    neutral: ClassVar[float | None] = log(2)

    def __post_init__(self) -> None:
        positive(self, beta=self.beta)

    def __call__(self, terms: PairTerms, memory: Memory = {}) -> Loss:  # noqa: B006
        return mean(-logsigmoid(self.beta * terms.gap), terms, self.beta)
