"""MTA optimum: the best assignment by branch and bound, and the linear bound above it.

Paper: following arXiv 2208.05120; solved by HiGHS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.mta.assignment import Assignment
from incentives.mta.instance import REJECTED, MTAInstance


@dataclass(frozen=True)
class Solved:
    """bound: no assignment is worth more. proven: the assignment is optimal."""

    assignment: Assignment
    bound: float
    proven: bool

    @property
    def gap(self) -> float:
        """How far the bound lies above the assignment, relative to the bound; 0 where proven."""
        return 0.0 if self.proven or self.bound <= 0 else 1.0 - self.assignment.value / self.bound


@dataclass(frozen=True)
class MTAOptimum:
    """max sum v z over binary z, one server per task, capacities kept; z = 0 where not useful.

    time_limit_s: seconds for the search (> 0); when they are over, the best assignment found and
    the bound proved so far are returned.
    """

    time_limit_s: float = 60.0

    def __post_init__(self):
        if not self.time_limit_s > 0:
            raise ConfigError(
                f"MTA optimum: time_limit_s must be above 0, got {self.time_limit_s}."
            )

    def __call__(self, instance: MTAInstance) -> Solved:
        if not instance.useful.any():
            return Solved(_nothing(instance), 0.0, True)
        answer = _solve(instance, 1, {"time_limit": self.time_limit_s, "mip_rel_gap": 1e-9})
        chosen = _nothing(instance).server
        if answer.x is not None:
            task, server = np.nonzero(instance.useful)
            kept = answer.x > 0.5
            chosen[task[kept]] = server[kept]
        bound = (
            -answer.mip_dual_bound if answer.mip_dual_bound is not None else self.bound(instance)
        )
        found = Assignment(instance, chosen)
        return Solved(found, max(bound, found.value), answer.status == 0)

    def bound(self, instance: MTAInstance) -> float:
        """The linear relaxation's value: tasks may be cut in parts."""
        return -float(_solve(instance, 0, {}).fun) if instance.useful.any() else 0.0


def _nothing(instance: MTAInstance) -> Assignment:
    return Assignment(instance, np.full(instance.tasks, REJECTED))


def _solve(instance: MTAInstance, integral: int, options: dict):
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array, vstack

    task, server = np.nonzero(instance.useful)
    pair = np.arange(len(task))
    ones = np.ones(len(task))
    once = coo_array((ones, (task, pair)), shape=(instance.tasks, len(task)))
    loads = coo_array(
        (instance.work[task, server], (server, pair)), shape=(instance.servers, len(task))
    )
    return milp(
        -instance.value[task, server],
        integrality=np.full(len(task), integral),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(
            vstack([once, loads]).tocsr(), ub=np.append(np.ones(instance.tasks), instance.capacity)
        ),
        options=options,
    )
