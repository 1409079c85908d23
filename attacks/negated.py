"""Negated: a control, the honest row with the opposite sign where the rule looks at it.

Paper: none; our control, the limit T = 1 of Faker's norm solver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class Negated:
    """w' = -w in view.space: the norm is kept, one shared scalar, no search."""

    knowledge: ClassVar[Knowledge] = Knowledge.OWN

    def __call__(self, view: View) -> Crafted:
        return Crafted(view.as_updates(-view.in_space(view.own)))
