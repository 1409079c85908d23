"""Model replacement: scale the backdoored update until the average becomes the backdoored model.

Paper: Bagdasaryan et al., "How To Backdoor Federated Learning", AISTATS 2020, Section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from attacks import _checks
from attacks._rows import norm
from attacks._trigger import Trigger
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class ModelReplacement(Trigger):
    """x' = gamma (w_b - w_g), w_b trained on data with the trigger (its arguments: see Trigger).

    scale: gamma > 0; null takes n / m, which replaces the model under an unweighted mean.
    constrain: if given, gamma = constrain / |w_b - w_g| instead: the largest norm S > 0 that
    still passes a known bound.
    """

    scale: float | None = None
    constrain: float | None = None
    knowledge: ClassVar[Knowledge] = Knowledge.OWN

    def __post_init__(self):
        super().__post_init__()
        for name in ("scale", "constrain"):
            if getattr(self, name) is not None:
                _checks.in_range(self, name, getattr(self, name), 0, open_low=True)

    def __call__(self, view: View) -> Crafted:
        rows = _checks.poisoned(self, view)
        if self.constrain is None:
            gamma = view.clients / len(view.own) if self.scale is None else self.scale
            return Crafted(rows * gamma)
        rows = rows.clone()
        for row in rows:
            length = norm(row)
            row.mul_(self.constrain / length if length > 0 else 1.0)
        return Crafted(rows)
