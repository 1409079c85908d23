"""LIE: hide inside the spread of honest rows, at the most deviant place a crowd still supports.

Paper: Baruch et al., "A Little Is Enough", NeurIPS 2019, Algorithm 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar, Literal

from attacks import _checks
from attacks._rows import clones, deviation, mean
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class Lie:
    """x' = mean -+ z * standard deviation of the benign rows, per coordinate (ddof = 1).

    z: >= 0; null takes the largest for which s = floor(n/2) + 1 - m honest rows are expected to
    be farther out: z = Phi^-1((n - m - s) / (n - m)), never negative.
    sign: -1 below the mean, +1 above.
    """

    z: float | None = None
    sign: Literal[-1, 1] = -1
    knowledge: ClassVar[Knowledge] = Knowledge.UPDATES

    def __post_init__(self):
        _checks.one_of(self, "sign", self.sign, (-1, 1))
        if self.z is not None:
            _checks.in_range(self, "z", self.z, 0)

    def __call__(self, view: View) -> Crafted:
        # The paper estimates mean and deviation on the attackers' rows; we use the benign ones.
        rows = _checks.benign(self, view)
        z = _largest_z(view.clients, len(view.own)) if self.z is None else self.z
        row = mean(rows) + self.sign * z * deviation(rows)
        return Crafted(clones(row, len(view.own)), notes={"z": z})


def _largest_z(clients: int, attackers: int) -> float:
    benign = clients - attackers
    supporters = clients // 2 + 1 - attackers
    share = min((benign - supporters) / benign, 1 - 1e-6)
    return NormalDist().inv_cdf(share) if share > 0.5 else 0.0
