"""Greedy: every task to the server where it is worth most.

Paper: following arXiv 2208.05120, the greedy baseline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedalign.core.errors import ConfigError
from incentives.mta.assignment import Assignment
from incentives.mta.heuristics._fill import fill
from incentives.mta.instance import MTAInstance


@dataclass(frozen=True)
class Greedy:
    """order: tasks as given (published), or by falling price, which is far stronger."""

    order: Literal["given", "price"] = "given"

    def __post_init__(self):
        if self.order not in ("given", "price"):
            raise ConfigError(f"Greedy takes order=given or price, got '{self.order}'.")

    def __call__(self, instance: MTAInstance) -> Assignment:
        order = range(instance.tasks) if self.order == "given" else instance.by_price
        return fill(instance, order, lambda j, fit: fit[instance.value[j, fit].argmax()])
