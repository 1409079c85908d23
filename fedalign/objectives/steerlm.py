"""SteerLM: rate answers by attributes, learn to answer as rated, then learn from one's own best.

Paper: Dong et al., "SteerLM: Attribute Conditioned SFT as an (User-Steerable) Alternative to RLHF",
Findings of EMNLP 2023, Section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fedalign.core.errors import ConfigError
from fedalign.objectives.terms import positive, within

Stage = Literal["rate", "condition", "bootstrap", "weigh"]


@dataclass(frozen=True)
class SteerLm:
    """Three stages of a run's rounds. rating_rounds: >= 1, an attribute prediction model learns the
    clients' ratings by regression. Then attribute-conditioned fine-tuning on answers that it
    annotates. bootstrap_rounds: >= 0, the last ones: the model answers under conditions drawn from
    the best, the attribute model annotates these answers, and they are learned as annotated.

    dropout: in [0, 1), how often an attribute is left out of a condition. quality: in (0, 1], the
    share of a client's annotated answers, by their worth, that conditions are drawn from.
    annotate: who says what the client's own answers are, the attribute model or the raters who
    rated them; answers that the model gives are annotated by the attribute model.
    """

    rating_rounds: int = 2
    bootstrap_rounds: int = 1
    dropout: float = 0.1
    quality: float = 0.25
    annotate: Literal["model", "raters"] = "model"
    reference: ClassVar[str] = "none"
    mismatched: ClassVar[bool] = False
    neutral: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        within(self, 0.0, 1.0, dropout=self.dropout)
        positive(self, quality=self.quality)
        within(self, 0.0, 1.0, True, quality=self.quality)
        known_annotator(self, self.annotate)
        if self.rating_rounds < 1 or self.bootstrap_rounds < 0:
            raise ConfigError(
                "SteerLm.rating_rounds must be 1 or more and bootstrap_rounds 0 or more, got "
                f"{self.rating_rounds} and {self.bootstrap_rounds}."
            )

    def stage(self, round: int, rounds: int) -> Stage:
        """What round 1 .. rounds does."""
        if round <= self.rating_rounds:
            return "rate"
        return "bootstrap" if round > rounds - self.bootstrap_rounds else "condition"


def known_annotator(owner: object, name: str) -> None:
    """Refuse annotators there are not."""
    if name not in ("model", "raters"):
        raise ConfigError(f"{type(owner).__name__}.annotate must be model or raters, got {name!r}.")
