"""Sign flip: send the honest direction backwards.

Paper: Li et al., "RSA: Byzantine-Robust Stochastic Aggregation Methods", AAAI 2019, Section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from attacks import _checks
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class SignFlip:
    """x' = -scale * own.

    scale: how many times as long as the honest row, > 0.
    """

    scale: float = 1.0
    knowledge: ClassVar[Knowledge] = Knowledge.OWN

    def __post_init__(self):
        _checks.in_range(self, "scale", self.scale, 0, open_low=True)

    def __call__(self, view: View) -> Crafted:
        return Crafted(-self.scale * view.own)
