"""Median: the middle value of every coordinate.

Paper: Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
ICML 2018, Definition 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses._checks import check_space
from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.selection import median
from fedalign.core.threat import Family, Space


@dataclass(frozen=True)
class Median(Defense):
    """Coordinate-wise median; for even n the mean of the two middle values. f < n / 2.

    space: what attacks measure themselves against; the median is the same.
    """

    space: Space = "update"

    family: ClassVar[Family] = "coordinate"
    linear: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_space("Median", self.space)

    def minimum(self, byzantine_count: int) -> int:
        return 2 * byzantine_count + 1

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        require(self, len(updates), context.byzantine_count or 0)
        everyone = torch.ones(len(updates), dtype=torch.bool, device=updates.device)
        return Aggregate(median(updates), everyone)
