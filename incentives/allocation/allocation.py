"""Allocation: frequencies for a round time, what they cost and whether they keep every limit.

Paper: following arXiv 2206.02243.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from incentives.allocation.problem import AllocationProblem


@dataclass(frozen=True)
class Allocation:
    """round_s: T. training, consensus: (N,) gigahertz. mec: gigahertz per task of each server."""

    problem: AllocationProblem
    round_s: float
    training: np.ndarray
    consensus: np.ndarray
    mec: Sequence[np.ndarray]

    @classmethod
    def at(cls, problem: AllocationProblem, round_s: float) -> Allocation:
        """The best one with this round time, which must not be below `problem.shortest`."""
        finish = np.full(len(problem.servers), round_s)
        return cls(problem, float(round_s), *problem.cost.split(finish), problem.mec)

    @property
    def energy(self) -> float:  # joules, mobile-edge tasks included
        cost, kappa = self.problem.cost, self.problem.kappa
        bcfl = kappa * (cost.training @ self.training**2 + cost.consensus @ self.consensus**2)
        pairs = zip(self.problem.servers, self.mec, strict=True)
        return float(bcfl + sum(kappa * np.asarray(s.mec, float) @ f**2 for s, f in pairs))

    @property
    def objective(self) -> float:
        return self.energy + self.problem.omega * self.round_s

    @property
    def violation(self) -> float:
        """The largest, relative to its limit: capacity, mobile-edge deadlines, round, deadline."""
        cost, worst = self.problem.cost, [self.round_s / self.problem.deadline_s - 1]
        finish = cost.communication_s + cost.training / self.training
        finish = finish + cost.consensus / self.consensus
        worst += list(finish / self.round_s - 1)
        for i, (server, mec) in enumerate(zip(self.problem.servers, self.mec, strict=True)):
            used = self.training[i] + self.consensus[i] + mec.sum()
            worst.append(used / server.capacity - 1)
            seconds = np.asarray(server.mec, float) / mec
            worst += list(seconds / np.asarray(server.deadlines_s, float) - 1)
        return float(max(0.0, *worst))
