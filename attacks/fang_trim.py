"""Fang against trimmed mean and median: beyond the benign extreme, on the wrong side.

Paper: Fang et al., "Local Model Poisoning Attacks to Byzantine-Robust Federated Learning",
USENIX Security 2020, Section 4.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from attacks import _checks
from attacks._noise import uniform
from attacks._rows import deviation, mean
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class FangTrim:
    """Per coordinate, opposite to the sign of the mean update, a uniform draw for each attacker.

    sees: benign rows ("updates"): between the benign extreme and b times as far from zero
    (1/b, if zero lies beyond); or only the attackers' own honest rows ("own"): 3 to 4 standard
    deviations from their mean. b: > 1.
    """

    b: float = 2.0
    sees: Literal["updates", "own"] = "updates"

    def __post_init__(self):
        _checks.in_range(self, "b", self.b, 1, open_low=True)
        _checks.one_of(self, "sees", self.sees, ("updates", "own"))

    @property
    def knowledge(self) -> Knowledge:
        return Knowledge.UPDATES if self.sees == "updates" else Knowledge.OWN

    def __call__(self, view: View) -> Crafted:
        known = view.own if self.sees == "own" else _checks.benign(self, view)
        centre = mean(known)
        down = centre >= 0  # a zero mean has no wrong side; we take the lower one
        if self.sees == "own":
            spread = deviation(known) * torch.where(down, -1.0, 1.0).to(centre)
            near, far = centre + 3 * spread, centre + 4 * spread
        else:
            near = torch.where(down, known.amin(dim=0), known.amax(dim=0))
            outward = (near > 0) != down  # moving away from zero
            far = torch.where(outward, near * self.b, near / self.b)
        return Crafted(near + (far - near) * uniform(view.rng, view.own))
