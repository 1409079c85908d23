"""Random feasible: every task to any server that can still take it.

Paper: following arXiv 2208.05120, the random baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from incentives.mta.assignment import Assignment
from incentives.mta.heuristics._fill import fill
from incentives.mta.instance import MTAInstance


@dataclass(frozen=True)
class RandomFeasible:
    """Tasks as given, the server uniform among the feasible ones."""

    def __call__(self, instance: MTAInstance, rng: np.random.Generator) -> Assignment:
        return fill(instance, range(instance.tasks), lambda j, fit: rng.choice(fit))
