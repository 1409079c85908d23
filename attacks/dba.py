"""DBA: the trigger is split among the attackers, none of them ever shows it whole.

Paper: Xie et al., "DBA: Distributed Backdoor Attacks against Federated Learning", ICLR 2020,
Section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from attacks import _checks
from attacks._trigger import Trigger
from fedalign.core.errors import ConfigError
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class Dba(Trigger):
    """Attacker a trains with part a mod `parts` of the trigger (its arguments: see Trigger);
    success is measured with all parts together.

    parts: >= 1, at most the pixels or features of the trigger. scale: gamma > 0 on the poisoned
    update, 1 for attacks in every round, 100 for a single one.
    """

    parts: int = 4
    scale: float = 1.0
    knowledge: ClassVar[Knowledge] = Knowledge.OWN

    def __post_init__(self):
        super().__post_init__()
        _checks.in_range(self, "parts", self.parts, 1)
        _checks.in_range(self, "scale", self.scale, 0, open_low=True)
        if self.parts > min(self.height * self.width, self.features):
            raise ConfigError(
                f"Dba cannot split a trigger of {self.height} x {self.width} pixels (or "
                f"{self.features} features) into {self.parts} parts: lower parts or enlarge it."
            )

    def part(self, member: int) -> tuple[int, int]:
        return member % self.parts, self.parts

    def __call__(self, view: View) -> Crafted:
        return Crafted(_checks.poisoned(self, view) * self.scale)
