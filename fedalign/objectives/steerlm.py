"""SteerLM: rate answers by attributes, learn to answer as rated, then learn from one's own best.

Paper: Dong et al., "SteerLM: Attribute Conditioned SFT as an (User-Steerable) Alternative to RLHF",
Findings of EMNLP 2023, Section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fedalign.core.errors import ConfigError
from fedalign.objectives.terms import pooled, positive, within

Stage = Literal["rate", "condition", "bootstrap", "weigh"]


@dataclass(frozen=True)
class Steered:
    """What SteerLM and SteerLM 2.0 share: a run's rounds in three stages. In rating_rounds, >= 1, an
    attribute prediction model learns the clients' ratings by regression; attribute-conditioned
    fine-tuning on annotated answers follows; the last rounds belong to the objective.

    dropout: in [0, 1), how often an attribute is left out of a condition. quality: in (0, 1], the
    share of a client's annotated answers, by their worth, that conditions are drawn from.
    annotate: who says what the client's own answers are, the attribute model or the raters who
    rated them; answers that the model gives are annotated by the attribute model. pool: what that
    one reads, last, the state at the answer's last token, or mean, over its tokens.
    """

    rating_rounds: int = 2
    dropout: float = 0.1
    quality: float = 0.25
    annotate: Literal["model", "raters"] = "model"
    pool: Literal["last", "mean"] = "last"
    reference: ClassVar[str] = "none"
    mismatched: ClassVar[bool] = False
    neutral: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        within(self, 0.0, 1.0, dropout=self.dropout)
        positive(self, quality=self.quality)
        within(self, 0.0, 1.0, True, quality=self.quality)
        pooled(self, self.pool)
        kind = type(self).__name__
        if self.annotate not in ("model", "raters"):
            raise ConfigError(f"{kind}.annotate must be model or raters, got {self.annotate!r}.")
        if self.rating_rounds < 1:
            raise ConfigError(f"{kind}.rating_rounds must be 1 or more, got {self.rating_rounds}.")

    def _stage(self, round: int, rounds: int, last: Stage, last_rounds: int) -> Stage:
        """What round 1 .. rounds does, where the last ones do `last`."""
        if round <= self.rating_rounds:
            return "rate"
        return last if round > rounds - last_rounds else "condition"


@dataclass(frozen=True)
class SteerLm(Steered):
    """bootstrap_rounds: >= 0, the last ones: the model answers under conditions drawn from the best,
    the attribute model annotates these answers, and they are learned as annotated. rating_rounds,
    dropout, quality, annotate, pool: as of Steered.
    """

    bootstrap_rounds: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bootstrap_rounds < 0:
            raise ConfigError(
                f"SteerLm.bootstrap_rounds must be 0 or more, got {self.bootstrap_rounds}."
            )

    def stage(self, round: int, rounds: int) -> Stage:
        """What round 1 .. rounds does."""
        return self._stage(round, rounds, "bootstrap", self.bootstrap_rounds)
