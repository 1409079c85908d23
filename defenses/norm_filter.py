"""Norm filter: average only those whose length is near the usual one.

Paper: Wang, Hu & Zou, "Can We Trust the Similarity Measurement in Federated Learning?",
arXiv 2311.03369, 2023, Section 6.1, as published reproductions state it: 0.8 M <= |x| <= M.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from defenses._checks import check, check_space
from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.moments import moments
from fedalign.core.threat import Family, Space


@dataclass(frozen=True)
class NormFilter(Defense):
    """Mean of the rows with lower * M <= |x_i| <= M; nobody inside means skipped.

    bound: M > 0, a length; None takes M = factor * median length. factor: > 0. lower: in [0, 1),
    a share of M. space: lengths of "model"s (where `context.model` is given) or of "update"s; in
    update space the default band rejects most honest clients. scores: (n,) lengths over M.
    """

    bound: float | None = None
    factor: float = 1.1
    lower: float = 0.8
    space: Space = "model"

    family: ClassVar[Family] = "norm"
    test: ClassVar[Literal["threshold"]] = "threshold"

    def __post_init__(self) -> None:
        bound = self.bound
        check(bound is None or bound > 0, "NormFilter", "bound", "positive or null", bound)
        check(self.factor > 0, "NormFilter", "factor", "positive", self.factor)
        check(0 <= self.lower < 1, "NormFilter", "lower", "at least 0 and below 1", self.lower)
        check_space("NormFilter", self.space)

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        model = context.model if self.space == "model" else None
        lengths = moments(updates, shift=model)[0].sqrt()
        upper = self.factor * float(lengths.quantile(0.5)) if self.bound is None else self.bound
        kept = (lengths >= self.lower * upper) & (lengths <= upper)
        scores = lengths / upper if upper > 0 else lengths
        return Aggregate.mean(updates, kept, scores=scores, notes={"upper": upper})
