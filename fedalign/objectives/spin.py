"""SPIN: tell the data's answers from those of one's own previous iterate.

Paper: Chen et al., "Self-Play Fine-Tuning Converts Weak Language Models to Strong Language Models",
ICML 2024, Eq. 4.7.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import ClassVar

from torch.nn.functional import logsigmoid

from fedalign.objectives.terms import Loss, Memory, PairTerms, mean, positive


@dataclass(frozen=True)
class Spin:
    """- log sigmoid(scale [log-ratio of the data's answer - log-ratio of the iterate's answer]).

    scale: lambda > 0. The reference is the iterate that wrote the rejected answers; chosen answers
    are the data's. At the data's own distribution the expected gradient is 0.
    """

    scale: float = 0.1
    reference: ClassVar[str] = "iterate"
    mismatched: ClassVar[bool] = False
    neutral: ClassVar[float | None] = log(2)

    def __post_init__(self) -> None:
        positive(self, scale=self.scale)

    def __call__(self, terms: PairTerms, memory: Memory = {}) -> Loss:  # noqa: B006
        return mean(-logsigmoid(self.scale * terms.gap), terms, self.scale)
