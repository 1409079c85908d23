"""Gaussian: send noise, or hide behind noise added to the honest row.

Paper: Blanchard et al., "Machine Learning with Adversaries", NeurIPS 2017, Section 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from attacks import _checks
from attacks._noise import normal
from attacks._rows import norm
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class Gaussian:
    """x' ~ N(mean, std^2 I), every attacker its own draw.

    mean: of every value. std: > 0. relative: if given, std = relative * |own| / sqrt(d) of each
    attacker (> 0). add: the noise goes on top of the honest row instead of replacing it.
    """

    mean: float = 0.0
    std: float = 1.0
    relative: float | None = None
    add: bool = False
    knowledge: ClassVar[Knowledge] = Knowledge.OWN

    def __post_init__(self):
        _checks.in_range(self, "mean", self.mean, float("-inf"))
        _checks.in_range(self, "std", self.std, 0, open_low=True)
        if self.relative is not None:
            _checks.in_range(self, "relative", self.relative, 0, open_low=True)

    def __call__(self, view: View) -> Crafted:
        rows = normal(view.rng, view.own)
        for row, own in zip(rows, view.own, strict=True):
            std = self.std if self.relative is None else self.relative * norm(own) / len(own) ** 0.5
            row.mul_(std).add_(self.mean)
        return Crafted(rows + view.own if self.add else rows)
