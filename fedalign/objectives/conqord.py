"""CONQORD: reward answers whose stated confidence follows their quality.

Paper: Tao et al., "When to Trust LLMs: Aligning Confidence with Response Quality", Findings of ACL
2024, Eqs. 3-4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from fedalign.core.errors import ConfigError
from fedalign.objectives.terms import positive


@dataclass(frozen=True)
class Conqord:
    """R = quality + weight sum_{j != i} (q_i - q_j)(c_i - c_j).

    weight: alpha >= 0. scale: mean divides the sum by the other answers, sum leaves it (as
    released). penalty: added where no confidence can be read. limit: > 0, R is cut to +- limit;
    quality is measured in deviations of what the client thinks of the base model's answers.

    The first `format_rounds` (>= 0) rounds teach the form: own answers with a confidence, by
    cross-entropy; 0 where the base model states one already. form: the digit is drawn at random and
    imitated as the rest, or ordered: it follows the reward for order among the answers that the
    client holds, whose worth it knows (ours, not the paper's). Then leave-one-out policy gradients
    (Rloo): answers: k >= 2 per prompt; kl_weight: >= 0, to the base model, or to the one
    that a round begins with where the base has never stated a confidence.

    credit: what the digit of a confidence is credited with. answer: as every other token, with all
    that its answer is worth beside the other answers to the prompt, the noise of what their bodies
    are worth included. digit: with what each of the ten digits would have brought behind this body,
    summed over all ten by their chances (Ciosek and Whiteson, "Expected Policy Gradients", JMLR
    2020, Section 3): the same expectation without that noise, if what follows a digit does not
    depend on it. The paper has the critic of PPO for this.
    """

    weight: float = 0.5
    scale: Literal["mean", "sum"] = "mean"
    penalty: float = -1.0
    limit: float = 5.0
    format_rounds: int = 0
    form: Literal["random", "ordered"] = "random"
    answers: int = 4
    kl_weight: float = 0.05
    credit: Literal["answer", "digit"] = "answer"
    reference: ClassVar[str] = "none"
    mismatched: ClassVar[bool] = False
    neutral: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ConfigError(f"Conqord.weight must be 0 or more, got {self.weight}.")
        if self.scale not in ("mean", "sum"):
            raise ConfigError(f"Conqord.scale must be mean or sum, got {self.scale!r}.")
        if self.credit not in ("answer", "digit"):
            raise ConfigError(f"Conqord.credit must be answer or digit, got {self.credit!r}.")
        if self.form not in ("random", "ordered"):
            raise ConfigError(f"Conqord.form must be random or ordered, got {self.form!r}.")
        positive(self, limit=self.limit)
        if self.format_rounds < 0 or self.answers < 2 or self.kl_weight < 0:
            raise ConfigError(
                "Conqord needs format_rounds >= 0, answers >= 2 and kl_weight >= 0, got "
                f"{self.format_rounds}, {self.answers} and {self.kl_weight}."
            )

    def __call__(self, quality: Tensor, confidence: Tensor) -> Tensor:
        """quality: (B,), B >= 4. confidence: (B,) in [0, 1], NaN where unreadable. Returns (B,)."""
        if len(quality) < 4:
            raise ConfigError(
                f"Conqord compares answers of one batch and needs at least 4, got {len(quality)}."
            )
        readable = ~confidence.isnan()
        bonus = self.alignment(quality, confidence)
        return quality + self.weight * bonus + self.penalty * (~readable).to(quality.dtype)

    def offers(self, quality: Tensor, confidence: Tensor, levels: Tensor) -> Tensor:
        """(B, D), what a readable answer would be worth if it stated each of the D `levels` instead
        of its own confidence, the others as they are."""
        readable = ~confidence.isnan()
        gaps = (quality[:, None] - quality) * readable  # (B, B)
        bonus = levels * gaps.sum(dim=1)[:, None] - (gaps @ confidence.nan_to_num())[:, None]
        return quality[:, None] + self.weight * bonus / self._divisor(readable)

    def alignment(self, quality: Tensor, confidence: Tensor) -> Tensor:
        """(B,), how well each answer's confidence is ordered among the readable others."""
        readable = ~confidence.isnan()
        c = confidence.nan_to_num()
        products = (quality[:, None] - quality) * (c[:, None] - c)  # (B, B), 0 on the diagonal
        products = products * readable[:, None] * readable
        return products.sum(dim=1) / self._divisor(readable)

    def _divisor(self, readable: Tensor) -> int:
        """By what sums over the other readable answers are divided."""
        return 1 if self.scale == "sum" else max(int(readable.sum()) - 1, 1)


def calibration_error(confidence: Tensor, correct: Tensor, bins: int = 10) -> float:
    """ECE with equal-width bins: sum of share times |accuracy - confidence|. Both (N,)."""
    place = (confidence * bins).long().clamp(max=bins - 1)
    error = 0.0
    for b in range(bins):
        inside = place == b
        if inside.any():
            gap = correct[inside].double().mean() - confidence[inside].double().mean()
            error += float(inside.double().mean() * gap.abs())
    return error


def brier(confidence: Tensor, correct: Tensor) -> float:
    """Mean squared difference of confidence and outcome, both (N,)."""
    return float((confidence.double() - correct.double()).square().mean())
