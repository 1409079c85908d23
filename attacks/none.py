"""No attack: the controlled clients send their honest rows.

Paper: none; the reference every damage is measured against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class NoAttack:
    """Everybody is honest."""

    knowledge: ClassVar[Knowledge] = Knowledge.OWN

    def __call__(self, view: View) -> Crafted:
        return Crafted(view.own)
