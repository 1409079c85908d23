"""Min-Max: as far from the mean as possible, yet no farther from anybody than honest rows are.

Paper: Shejwalkar and Houmansadr, "Manipulating the Byzantine", NDSS 2021, Section V-B, Eq. 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from attacks import _checks
from attacks._perturbation import (
    DIRECTIONS,
    Perturbation,
    direction_of,
    published_distances,
    published_search,
)
from attacks._rows import clones
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class MinMax:
    """x' = mean + gamma p, the largest gamma with max_i |x' - x_i| <= max_ij |x_i - x_j| = D.

    deviation: p is -mean/|mean| (unit), -standard deviation (std) or -sign(mean) (sign).
    search: closed, gamma = min_i (-b_i + sqrt(b_i^2 - a c_i)) / a with a = |p|^2,
    b_i = <mean - x_i, p>, c_i = |mean - x_i|^2 - D^2; or published, the halving search, kept to
    compare the cost.
    """

    deviation: Literal["unit", "std", "sign"] = "unit"
    search: Literal["closed", "published"] = "closed"
    knowledge: ClassVar[Knowledge] = Knowledge.UPDATES

    def __post_init__(self):
        _checks.one_of(self, "deviation", self.deviation, DIRECTIONS)
        _checks.one_of(self, "search", self.search, ("closed", "published"))

    def __call__(self, view: View) -> Crafted:
        rows = _checks.benign(self, view)
        if self.search == "published":
            return self._searched(rows, view)
        around = Perturbation.of(rows, self.deviation)
        return around.crafted(_gamma(around), view)

    def _searched(self, rows: Tensor, view: View) -> Crafted:
        centre = rows.mean(dim=0)
        step = direction_of(rows, centre, self.deviation)
        widest = published_distances(rows).max()
        gamma = published_search(rows, centre, step, lambda far: bool(far.max() <= widest))
        return Crafted(clones(centre + gamma * step, len(view.own)), notes={"gamma": gamma})


def _gamma(around: Perturbation) -> float:
    if around.square <= 0:
        return 0.0
    b, c = around.lean, (around.from_mean - around.pairwise.max()).clamp(max=0)
    return float(((b.square() - around.square * c).sqrt() - b).min()) / around.square
