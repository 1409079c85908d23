"""Random feasible: a random round time, and each server finishes at a random time before it.

Paper: none; our choice (a baseline in arXiv 2206.02243's setting).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.allocation.allocation import Allocation
from incentives.allocation.problem import AllocationProblem


@dataclass(frozen=True)
class RandomFeasible:
    """T uniform between the shortest round and the deadline (finite), finishing times uniform
    between a server's fastest and T, with the least energy for that time."""

    def __call__(self, problem: AllocationProblem, rng: np.random.Generator) -> Allocation:
        if np.isinf(problem.deadline_s):
            raise ConfigError("A random round time needs a finite deadline_s to be drawn below.")
        shortest = min(problem.shortest, problem.deadline_s)
        round_s = float(rng.uniform(shortest, problem.deadline_s))
        finish = rng.uniform(np.minimum(problem.cost.fastest, round_s), round_s)
        return Allocation(problem, round_s, *problem.cost.split(finish), problem.mec)
