"""IPM: make the aggregate's inner product with the true mean negative.

Paper: Xie et al., "Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product
Manipulation", UAI 2019, Section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from attacks import _checks
from attacks._rows import clones, mean
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class InnerProductManipulation:
    """x' = -epsilon * mean of the benign rows.

    epsilon: >= 0; small passes selection rules, large turns averages around.
    """

    epsilon: float = 0.5
    knowledge: ClassVar[Knowledge] = Knowledge.UPDATES

    def __post_init__(self):
        _checks.in_range(self, "epsilon", self.epsilon, 0)

    def __call__(self, view: View) -> Crafted:
        row = mean(_checks.benign(self, view)).mul_(-self.epsilon)
        return Crafted(clones(row, len(view.own)))
