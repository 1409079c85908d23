"""Constitutional revision: imitate one's own answers after they were made to keep the rules.

Paper: Bai et al., "Constitutional AI: Harmlessness from AI Feedback", 2022, Sections 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fedalign.core.errors import ConfigError
from fedalign.objectives.terms import positive


@dataclass(frozen=True)
class Constitution:
    """Answers of the model that a round begins with are criticised and revised, see
    fedalign/data/reviser.py. revisions: >= 1 per answer, each repairs one violated rule.

    form: supervised, cross-entropy on revised answers; preference, DPO of the revised answer
    against the first one, where they differ. beta: > 0, of DPO. rate_scale: > 0, multiplies the
    learning rate: what DPO takes from rejected answers may go to what no answer of the round's
    first model says, and nothing brings it back before the next round.
    """

    revisions: int = 2
    form: Literal["supervised", "preference"] = "supervised"
    beta: float = 0.5
    rate_scale: float = 1.0
    reference: ClassVar[str] = "none"
    mismatched: ClassVar[bool] = False
    neutral: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        positive(self, beta=self.beta, rate_scale=self.rate_scale)
        if self.revisions < 1:
            raise ConfigError(f"Constitution.revisions must be 1 or more, got {self.revisions}.")
        if self.form not in ("supervised", "preference"):
            raise ConfigError(
                f"Constitution.form must be supervised or preference, got {self.form!r}."
            )
