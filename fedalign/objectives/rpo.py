"""RPO: the implicit margin should equal the true one, not grow without bound.

Papers: Adler et al., "Nemotron-4 340B Technical Report", 2024, Section 3.3.3 (bwd); Shen et al.,
"NeMo-Aligner: Scalable Toolkit for Efficient Model Alignment", COLM 2024 (the three forms).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn.functional import logsigmoid

from fedalign.core.errors import ConfigError
from fedalign.objectives.terms import Loss, Memory, PairTerms, mean, positive, scores


@dataclass(frozen=True)
class Rpo:
    """Distance between beta Delta and g = scale (R_w - R_l), R the scores of the pair.

    form: sq, the squared difference; bwd, KL(Bern(sigma(g)) || Bern(sigma(beta Delta))); fwd, with
    the arguments swapped. beta, scale: > 0. sft: weight (>= 0) of -log pi(y_w) per pair.
    """

    beta: float = 0.1
    form: Literal["sq", "bwd", "fwd"] = "bwd"
    scale: float = 1.0
    sft: float = 0.0
    reference: ClassVar[str] = "sft"
    mismatched: ClassVar[bool] = False
    neutral: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        positive(self, beta=self.beta, scale=self.scale)
        if self.form not in ("sq", "bwd", "fwd"):
            raise ConfigError(f"Rpo.form must be sq, bwd or fwd, got {self.form!r}.")
        if self.sft < 0:
            raise ConfigError(f"Rpo.sft must be 0 or more, got {self.sft}.")

    def __call__(self, terms: PairTerms, memory: Memory = {}) -> Loss:  # noqa: B006
        better, worse = scores(self, terms)
        x, g = self.beta * terms.gap, self.scale * (better - worse).to(terms.gap.dtype)
        items = (x - g).square()
        if self.form != "sq":
            items = _bernoulli_kl(g, x) if self.form == "bwd" else _bernoulli_kl(x, g)
        return mean(items - self.sft * terms.chosen, terms, self.beta)


def _bernoulli_kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(Bern(sigma(p)) || Bern(sigma(q))) of logits."""
    yes = p.sigmoid() * (logsigmoid(p) - logsigmoid(q))
    return yes + (-p).sigmoid() * (logsigmoid(-p) - logsigmoid(-q))
