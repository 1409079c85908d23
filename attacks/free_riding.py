"""Free-riding: take part without training, and look as if.

Paper: Fraboni et al., "Free-rider Attacks on Model Aggregation in Federated Learning",
AISTATS 2021, Section 4; delta: Lin et al., "Free-riders in Federated Learning", 2019, Section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from attacks import _checks
from attacks._noise import normal
from attacks._rows import clones
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class FreeRiding:
    """Knows the broadcast models only.

    kind: plain, the zero update; disguised, noise of standard deviation sigma_0 t^-gamma, where
    t counts the finished rounds and sigma_0 is the standard deviation of the first change of the
    global model (a late joiner matches the latest change); delta, the latest change itself.
    Before any change is known all three send zeros. gamma: >= 0.
    """

    kind: Literal["plain", "disguised", "delta"] = "plain"
    gamma: float = 1.0
    knowledge: ClassVar[Knowledge] = Knowledge.OWN

    def __post_init__(self):
        _checks.one_of(self, "kind", self.kind, ("plain", "disguised", "delta"))
        _checks.in_range(self, "gamma", self.gamma, 0)

    def __call__(self, view: View) -> Crafted:
        if self.kind == "plain" or view.past is None:
            return Crafted(torch.zeros_like(view.own), view.memory)
        change = view.model - view.past
        if self.kind == "delta":
            return Crafted(clones(change, len(view.own)))
        finished = max(view.round - 1, 1)
        first = view.memory.get("sigma")
        if first is None:
            first = float(change.double().std(correction=0)) * finished**self.gamma
        rows = normal(view.rng, view.own).mul_(first * finished**-self.gamma)
        return Crafted(rows, {"sigma": first})
