"""MPAF: pull the global model towards a fixed random one.

Paper: Cao and Gong, "MPAF: Model Poisoning Attacks to Federated Learning based on Fake Clients",
CVPR Workshops 2022, Section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from attacks import _checks
from attacks._rows import clones
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class Mpaf:
    """x' = scale * (w' - w_g), w' the randomly initialised model of round 0; no data needed.

    scale: lambda > 0.
    """

    scale: float = 1e6
    knowledge: ClassVar[Knowledge] = Knowledge.OWN

    def __post_init__(self):
        _checks.in_range(self, "scale", self.scale, 0, open_low=True)

    def __call__(self, view: View) -> Crafted:
        return Crafted(clones((view.initial - view.model) * self.scale, len(view.own)))
