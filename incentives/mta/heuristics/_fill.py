"""Filling servers one task at a time, what the constructive heuristics share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from incentives.mta.assignment import Assignment
from incentives.mta.instance import REJECTED, MTAInstance

Choose = Callable[[int, np.ndarray], int]  # task, its feasible servers (ascending) -> one of them


def fill(instance: MTAInstance, order: Iterable[int], choose: Choose) -> Assignment:
    """Serve tasks in this order, each by the feasible server chosen; reject what fits nowhere."""
    remaining = instance.capacity.copy()
    server = np.full(instance.tasks, REJECTED)
    for task in order:
        feasible = np.flatnonzero(instance.useful[task] & (instance.work[task] <= remaining))
        if feasible.size:
            server[task] = choose(task, feasible)
            remaining[server[task]] -= instance.work[task, server[task]]
    return Assignment(instance, server)
