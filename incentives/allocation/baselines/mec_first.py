"""MEC first: the round gets what the deadline needs, mobile-edge tasks run on all the rest.

Paper: none; our choice (a baseline in arXiv 2206.02243's setting).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.allocation.allocation import Allocation
from incentives.allocation.problem import AllocationProblem


@dataclass(frozen=True)
class MECFirst:
    """T is the deadline (finite); mobile-edge frequencies grow in proportion until nothing is
    left, f1 and f2 are the least that finish in time."""

    def __call__(self, problem: AllocationProblem) -> Allocation:
        if np.isinf(problem.deadline_s):
            raise ConfigError("MEC first runs rounds as long as deadline_s allows: make it finite.")
        cost = problem.cost
        seconds = problem.deadline_s - cost.communication_s
        roots = np.sqrt(cost.training), np.sqrt(cost.consensus)
        total = (roots[0] + roots[1]) / seconds
        f1, f2 = roots[0] * total, roots[1] * total  # least f1 + f2 for these seconds
        spare = np.maximum(cost.capacity - f1 - f2, 0.0)
        mec = [
            f * (1 + more / f.sum()) if f.size else f
            for f, more in zip(problem.mec, spare, strict=True)
        ]
        return Allocation(problem, problem.deadline_s, f1, f2, mec)
