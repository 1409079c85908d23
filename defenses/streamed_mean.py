"""Streamed mean: the mean of all updates, added up block by block and never held together.

Paper: Bonawitz et al., "Towards Federated Learning at Scale: System Design", MLSys 2019,
Section 4 (aggregators add updates up as they arrive).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from defenses._checks import check_choice, check_space
from fedalign.core.contracts import Aggregate, Context
from fedalign.core.errors import ConfigError
from fedalign.core.streams import Partial, StreamingDefense
from fedalign.core.threat import Family, Space

Weighting = Literal["uniform", "samples"]


@dataclass(frozen=True)
class StreamedMean(StreamingDefense):
    """sum_i w_i x_i / sum_i w_i in float64, in client order. Tolerates no Byzantine client.

    weighting: "uniform", or "samples", w_i = `context.weights`. space: what attacks measure
    themselves against; the mean is the same.
    """

    weighting: Weighting = "uniform"
    space: Space = "model"

    family: ClassVar[Family] = "other"
    linear: ClassVar[bool] = False  # no coefficients: who sent what is not kept
    test: ClassVar[Literal["none"]] = "none"

    def __post_init__(self) -> None:
        check_choice("StreamedMean", "weighting", self.weighting, get_args(Weighting))
        check_space("StreamedMean", self.space)

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        found = self.finish(self.add(None, updates, context))
        return replace(found, vector=found.vector.to(updates.dtype))

    def add(self, partial: Partial | None, updates: Tensor, context: Context) -> Partial:
        weights = torch.ones(len(updates), dtype=torch.float64)
        if self.weighting == "samples":
            if context.weights is None:
                raise ConfigError(
                    "StreamedMean with weighting='samples' needs the sample counts, got none: "
                    "pass Context(weights=...) or choose weighting='uniform'."
                )
            weights = context.weights.double()
        return added(partial, updates, weights, weights)

    def finish(self, partial: Partial) -> Aggregate:
        accepted = torch.ones(partial.count, dtype=torch.bool, device=partial.total.device)
        return Aggregate(partial.total / partial.weight, accepted)


def added(partial: Partial | None, updates: Tensor, factors: Tensor, weights: Tensor) -> Partial:
    """`partial` and sum_i factors_i x_i, one row after the other; factors, weights: (k,)."""
    if partial is None:
        total = torch.zeros(updates.shape[1], dtype=torch.float64, device=updates.device)
        partial = Partial(total)
    for factor, row in zip(factors.tolist(), updates, strict=True):
        partial.total.add_(row, alpha=factor)  # in place: d may be large, and blocks many
    return Partial(
        partial.total, partial.weight + float(weights.sum()), partial.count + len(updates)
    )
