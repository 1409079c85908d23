"""Constant: rows that no training produced, to inject faults.

Paper: none; fault injection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from attacks import _checks
from attacks._noise import uniform
from fedalign.core.threat import Crafted, Knowledge, View

VALUES = {"zero": 0.0, "inf": float("inf"), "nan": float("nan")}


@dataclass(frozen=True)
class Constant:
    """Every value is the same, or uniform noise.

    kind: zero, inf, nan, or random (uniform in [-bound, bound]). bound: > 0.
    """

    kind: Literal["zero", "inf", "nan", "random"] = "zero"
    bound: float = 1.0
    knowledge: ClassVar[Knowledge] = Knowledge.OWN

    def __post_init__(self):
        _checks.one_of(self, "kind", self.kind, (*VALUES, "random"))
        _checks.in_range(self, "bound", self.bound, 0, open_low=True)

    def __call__(self, view: View) -> Crafted:
        if self.kind == "random":
            return Crafted((2 * uniform(view.rng, view.own) - 1) * self.bound)
        return Crafted(torch.full_like(view.own, VALUES[self.kind]))
