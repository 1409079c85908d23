"""Meamed: per coordinate, the mean of the n - f values nearest the median.

Paper: Xie et al., "Generalized Byzantine-tolerant SGD", arXiv 1802.10116, 2018, Section 4.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses._checks import check_count, check_space
from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.selection import mean_around_median
from fedalign.core.threat import Family, Space


@dataclass(frozen=True)
class Meamed(Defense):
    """Mean around the median. f < n / 2; of two equally near values the smaller one counts.

    byzantine_count: f >= 0; None takes the context's. space: what attacks measure against.
    """

    byzantine_count: int | None = None
    space: Space = "update"

    family: ClassVar[Family] = "coordinate"
    linear: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count("Meamed", self.byzantine_count)
        check_space("Meamed", self.space)

    def minimum(self, byzantine_count: int) -> int:
        return 2 * byzantine_count + 1

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        n, f = len(updates), context.byzantine(self.byzantine_count)
        require(self, n, f)
        everyone = torch.ones(n, dtype=torch.bool, device=updates.device)
        return Aggregate(mean_around_median(updates, n - f), everyone)
