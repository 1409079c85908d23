"""Min-Sum: as far from the mean as honest rows allow in their sum of squared distances.

Paper: Shejwalkar and Houmansadr, "Manipulating the Byzantine", NDSS 2021, Section V-B, Eq. 10.
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
class MinSum:
    """x' = mean + gamma p, the largest gamma with sum_i |x' - x_i|^2 <= max_i sum_j |x_i - x_j|^2.

    deviation: p is -mean/|mean| (unit), -standard deviation (std) or -sign(mean) (sign).
    search: closed, gamma |p| = max_i |x_i - mean|: the crafted row is exactly as far from the
    mean as the farthest honest one; or published, the halving search, kept to compare the cost.
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
        farthest = float(around.from_mean.max()) ** 0.5
        gamma = farthest / around.square**0.5 if around.square > 0 else 0.0
        return around.crafted(gamma, view)

    def _searched(self, rows: Tensor, view: View) -> Crafted:
        centre = rows.mean(dim=0)
        step = direction_of(rows, centre, self.deviation)
        widest = published_distances(rows).sum(dim=1).max()
        gamma = published_search(rows, centre, step, lambda far: bool(far.sum() <= widest))
        return Crafted(clones(centre + gamma * step, len(view.own)), notes={"gamma": gamma})
