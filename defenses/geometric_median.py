"""Geometric median: the point with the smallest sum of distances to all updates.

Paper: Pillutla, Kakade, Harchaoui, "Robust Aggregation for Federated Learning", IEEE TSP 2022,
Algorithm 2 (RFA, smoothed Weiszfeld).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from defenses._checks import check, check_choice, check_space
from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.gram import centred_gram, squared_distances
from fedalign.core.moments import moments
from fedalign.core.threat import Family, Space

Start = Literal["crowd", "mean", "zero"]


@dataclass(frozen=True)
class GeometricMedian(Defense):
    """Smoothed Weiszfeld steps: z = sum_i b_i x_i / sum_i b_i, b_i = 1 / max(nu, |z - x_i|).

    f < n / 2. nu: smoothing > 0, in units of the update's length. iterations: >= 1, or fewer
    once no coefficient moves by more than 1e-12. start: "mean" (the paper), "zero" (ByzFL) or
    "crowd": first weights by each row's median distance to the others. All steps work on the
    n x n inner products, so their number hardly matters. space: what attacks measure themselves
    against. scores: (n,) distances to the result.
    """

    nu: float = 1e-6
    iterations: int = 8
    # From the mean, rows at 1e30 need a hundred steps to be forgotten; from the crowd, none.
    start: Start = "crowd"
    space: Space = "update"

    family: ClassVar[Family] = "distance"

    def __post_init__(self) -> None:
        check(self.nu > 0, "GeometricMedian", "nu", "positive", self.nu)
        check(self.iterations >= 1, "GeometricMedian", "iterations", "1 or more", self.iterations)
        check_choice("GeometricMedian", "start", self.start, get_args(Start))
        check_space("GeometricMedian", self.space)

    def minimum(self, byzantine_count: int) -> int:
        return 2 * byzantine_count + 1

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        n = len(updates)
        require(self, n, context.byzantine_count or 0)
        gram = centred_gram(updates)
        coefficients = torch.full((n,), 1 / n, dtype=torch.float64, device=updates.device)
        if self.start == "mean":
            distances = _distances(gram, coefficients)
        elif self.start == "zero":
            distances = moments(updates)[0].sqrt()
        else:
            distances = squared_distances(gram).sqrt_().quantile(0.5, dim=1)
        for _ in range(self.iterations):
            before, weights = coefficients, 1 / distances.clamp(min=self.nu)
            coefficients = weights / weights.sum()
            distances = _distances(gram, coefficients)
            if float((coefficients - before).abs().max()) <= 1e-12:
                break
        return Aggregate.combine(updates, coefficients, scores=distances)


def _distances(gram: Tensor, coefficients: Tensor) -> Tensor:
    """|sum_i c_i x_i - x_j| for every j; the coefficients add up to 1."""
    product = gram @ coefficients
    return (coefficients @ product - 2 * product + gram.diagonal()).clamp_(min=0).sqrt_()
