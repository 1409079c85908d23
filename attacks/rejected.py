"""Rejected: a control in which no rule ever sees an attacker's row.

Paper: none; our control, it separates the loss of m clients from the damage of their rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class Rejected:
    """Send NaN rows: they are dropped before any rule runs, n and f shrink by m."""

    knowledge: ClassVar[Knowledge] = Knowledge.OWN

    def __call__(self, view: View) -> Crafted:
        return Crafted(torch.full_like(view.own, float("nan")))
