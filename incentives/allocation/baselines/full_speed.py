"""Full speed: mobile-edge tasks just in time, everything left goes to the round.

Paper: none; our choice (a baseline in arXiv 2206.02243's setting).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from incentives.allocation.allocation import Allocation
from incentives.allocation.problem import AllocationProblem


@dataclass(frozen=True)
class FullSpeed:
    """f1 : f2 = sqrt(C1) : sqrt(C2), which is the fastest round; T is the slowest server's."""

    def __call__(self, problem: AllocationProblem) -> Allocation:
        cost = problem.cost
        roots = np.sqrt(cost.training), np.sqrt(cost.consensus)
        whole = cost.capacity / (roots[0] + roots[1])
        round_s = float(cost.fastest.max())
        return Allocation(problem, round_s, roots[0] * whole, roots[1] * whole, problem.mec)
