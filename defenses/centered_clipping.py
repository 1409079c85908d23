"""Centered clipping: average what differs from the last aggregate, long differences shortened.

Paper: Karimireddy, He, Jaggi, "Learning from History for Byzantine Robust Optimization",
ICML 2021, Section 5, Algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses._checks import check
from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.gram import gram
from fedalign.core.threat import Family, Space
from fedalign.core.vectors import combine, counted


@dataclass(frozen=True)
class CenteredClipping(Defense):
    """v <- v + mean_i (x_i - v) min(1, tau / |x_i - v|), a few times. f < n / 2.

    tau: clipping radius > 0, in units of the update's length. iterations: L >= 1. Starts at the
    previous aggregate (memory "previous", (d,)), in the first round at 0. The start is part of
    the result, so there are no coefficients. scores: (n,) clipping factors of the last step;
    accepted: whose share of the movement is above 1/(10 n).
    """

    tau: float = 10.0
    iterations: int = 3

    space: ClassVar[Space] = "update"
    family: ClassVar[Family] = "distance"
    linear: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check(self.tau > 0, "CenteredClipping", "tau", "positive", self.tau)
        check(self.iterations >= 1, "CenteredClipping", "iterations", "1 or more", self.iterations)

    def minimum(self, byzantine_count: int) -> int:
        return 2 * byzantine_count + 1

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        n = len(updates)
        require(self, n, context.byzantine_count or 0)
        start = context.memory.get("previous")
        start = None if start is None else start.to(updates)
        products = gram(updates, origin=start)
        moved = torch.zeros(n, dtype=torch.float64, device=updates.device)
        for _ in range(self.iterations):  # v = start + sum_i moved_i (x_i - start)
            factors = self.tau / _distances(products, moved).clamp(min=self.tau)
            moved = moved * (1 - factors.mean()) + factors / n
        vector = combine(moved, updates)
        if start is not None:
            vector = (vector + (1 - moved.sum()) * start.double()).to(updates.dtype)
        return Aggregate(vector, counted(moved), scores=factors, memory={"previous": vector})


def _distances(products: Tensor, moved: Tensor) -> Tensor:
    """|v - x_j| for every j, all measured from the start."""
    along = products @ moved
    return (moved @ along - 2 * along + products.diagonal()).clamp_(min=0).sqrt_()
