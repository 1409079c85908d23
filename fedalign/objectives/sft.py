"""SFT: cross-entropy on the preferred answers, prompts masked out.

Paper: Ouyang et al., "Training language models to follow instructions with human feedback",
NeurIPS 2022, Section 3.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedalign.core.errors import ConfigError
from fedalign.objectives.terms import Loss, Memory, PairTerms


@dataclass(frozen=True)
class Sft:
    """L = - sum_i log pi(y_i | x_i) / sum_i |y_i|, over the whole optimizer batch."""

    reference: ClassVar[str] = "none"
    mismatched: ClassVar[bool] = False
    neutral: ClassVar[float | None] = None

    def __call__(self, terms: PairTerms, memory: Memory = {}) -> Loss:  # noqa: B006
        if terms.chosen_tokens is None:
            raise ConfigError("Sft divides by the number of tokens: pass chosen_tokens.")
        items = -terms.chosen
        value = items.sum() / terms.chosen_tokens.sum().clamp(min=1)
        return Loss(value, items, {"chosen_logp": float(terms.chosen.detach().mean())})
