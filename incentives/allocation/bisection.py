"""Bisection: the exact round time, where one more second saves as much energy as it costs.

Paper: following arXiv 2206.02243 (exact alternative).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from incentives.allocation.allocation import Allocation
from incentives.allocation.problem import AllocationProblem

HALVINGS = 200  # more than float64 can tell apart


@dataclass(frozen=True)
class Bisection:
    """The root of sum_i E_i'(T) + omega, which increases, in [shortest, deadline]."""

    def __call__(self, problem: AllocationProblem) -> Allocation:
        low, high = problem.shortest, problem.deadline_s
        if high <= low or problem.slope(low) >= 0:
            return Allocation.at(problem, min(low, high))
        if np.isinf(high):
            high = 2 * low
            while problem.slope(high) < 0:
                high *= 2
        if problem.slope(high) <= 0:
            return Allocation.at(problem, high)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if not low < middle < high:
                break
            low, high = (middle, high) if problem.slope(middle) < 0 else (low, middle)
        return Allocation.at(problem, (low + high) / 2)
