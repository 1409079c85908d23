"""Random sign: a control, a random direction with the norm of an honest row.

Paper: none; our control, one shared scalar without any search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from attacks._noise import signs
from attacks._rows import norm
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class RandomSign:
    """w' = |w_own| / sqrt(d) * s in view.space, s uniform in {-1, 1}^d for each attacker."""

    knowledge: ClassVar[Knowledge] = Knowledge.OWN

    def __call__(self, view: View) -> Crafted:
        honest = view.in_space(view.own)
        rows = signs(view.rng, honest)
        for row, own in zip(rows, honest, strict=True):
            row.mul_(norm(own) / len(own) ** 0.5)
        return Crafted(view.as_updates(rows))
