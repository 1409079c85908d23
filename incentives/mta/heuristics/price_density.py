"""Price density: tasks by falling price, each to the server that pays most per cycle.

Paper: following arXiv 2208.05120.
"""

from __future__ import annotations

from dataclasses import dataclass

from incentives.mta.assignment import Assignment
from incentives.mta.heuristics._fill import fill
from incentives.mta.instance import MTAInstance


@dataclass(frozen=True)
class PriceDensity:
    """The best v / w among feasible servers: the one that wastes least energy per cycle."""

    def __call__(self, instance: MTAInstance) -> Assignment:
        density = instance.value / instance.work
        return fill(instance, instance.by_price, lambda j, fit: fit[density[j, fit].argmax()])
