"""Half and half: what mobile-edge tasks leave is split evenly between training and consensus.

Paper: none; our choice (a baseline in arXiv 2206.02243's setting).
"""

from __future__ import annotations

from dataclasses import dataclass

from incentives.allocation.allocation import Allocation
from incentives.allocation.problem import AllocationProblem


@dataclass(frozen=True)
class HalfAndHalf:
    """f1 = f2 = half of what is left; it may miss the deadline, which `violation` shows."""

    def __call__(self, problem: AllocationProblem) -> Allocation:
        cost = problem.cost
        half = cost.capacity / 2
        finish = cost.communication_s + (cost.training + cost.consensus) / half
        return Allocation(problem, float(finish.max()), half, half, problem.mec)
