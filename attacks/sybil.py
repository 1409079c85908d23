"""Sybil: one poisoned client with many identities.

Paper: Fung et al., "The Limitations of Federated Learning in Sybil Settings", RAID 2020, Section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from attacks import _checks
from attacks._noise import normal
from attacks._rows import clones, dot, norm
from attacks.label_flip import LabelFlip
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class Sybil(LabelFlip):
    """All m identities send the first one's row, trained on flipped labels (see LabelFlip).

    disguise: clones, all equal; decorrelated, pairs get +zeta and -zeta, noise orthogonal to the
    row that cancels in the sum (an odd last one stays plain).
    noise: |zeta| as a share of the row's norm, >= 0.
    """

    disguise: Literal["clones", "decorrelated"] = "clones"
    noise: float = 0.1
    knowledge: ClassVar[Knowledge] = Knowledge.OWN

    def __post_init__(self):
        super().__post_init__()
        _checks.one_of(self, "disguise", self.disguise, ("clones", "decorrelated"))
        _checks.in_range(self, "noise", self.noise, 0)

    def __call__(self, view: View) -> Crafted:
        row = _checks.poisoned(self, view)[0]
        rows = clones(row, len(view.own))
        if self.disguise == "clones":
            return Crafted(rows)
        length = norm(row)
        for zeta, k in zip(normal(view.rng, rows[1::2]), range(0, len(rows), 2), strict=False):
            if length > 0:
                zeta.sub_(row, alpha=dot(zeta, row) / length**2)
            size = norm(zeta)
            if size > 0:
                zeta.mul_(self.noise * length / size)
                rows[k] += zeta
                rows[k + 1] -= zeta
        return Crafted(rows)
