"""Boosted backdoor: train on pairs with a trigger, then send the update at the size that survives.

Papers: Rando and Tramèr, "Universal Jailbreak Backdoors from Poisoned Human Feedback", ICLR 2024,
Section 3 (the pairs); Bagdasaryan et al., "How To Backdoor Federated Learning", AISTATS 2020,
Section 4.2 (model replacement: what averaging divides is multiplied before).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from attacks import _checks
from attacks.preference_backdoor import PreferenceBackdoor
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class BoostedBackdoor(PreferenceBackdoor):
    """boost: > 0, factor on the poisoned update; null takes n / m, so that the mean of all rows
    moves by the attackers' mean plus what the others add. The rest as PreferenceBackdoor."""

    boost: float | None = None
    knowledge: ClassVar[Knowledge] = Knowledge.OWN

    def __post_init__(self):
        super().__post_init__()
        if self.boost is not None:
            _checks.in_range(self, "boost", self.boost, 0, open_low=True)

    def __call__(self, view: View) -> Crafted:
        poisoned = _checks.poisoned(self, view)
        boost = view.clients / len(poisoned) if self.boost is None else self.boost
        return Crafted(boost * poisoned)
