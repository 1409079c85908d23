"""Trimmed mean: per coordinate, drop the largest and the smallest values, average the rest.

Paper: Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
ICML 2018, Definition 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses._checks import check, check_count, check_space
from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.errors import ToleranceError
from fedalign.core.selection import trimmed_mean
from fedalign.core.threat import Family, Space


@dataclass(frozen=True)
class TrimmedMean(Defense):
    """Coordinate-wise mean without the b smallest and b largest values; robust where f <= b < n/2.

    trim: b; None takes the context's f. fraction: b = int(fraction n) instead, in [0, 0.5),
    rounded down: int(0.29 · 100) = 28. space: what attacks measure themselves against.
    """

    trim: int | None = None
    fraction: float | None = None
    space: Space = "update"

    family: ClassVar[Family] = "coordinate"
    linear: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count("TrimmedMean", self.trim, "trim")
        fraction = self.fraction
        check(
            fraction is None or 0 <= fraction < 0.5,
            "TrimmedMean",
            "fraction",
            "at least 0 and below 0.5, or null",
            fraction,
        )
        check(
            fraction is None or self.trim is None,
            "TrimmedMean",
            "trim",
            "null where fraction is given",
            self.trim,
        )
        check_space("TrimmedMean", self.space)

    def minimum(self, byzantine_count: int) -> int:
        if self.fraction is not None:
            return 1
        return 2 * (byzantine_count if self.trim is None else self.trim) + 1

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        n = len(updates)
        trim = self._trim(n, context)
        if self.trim is None:
            require(self, n, trim if self.fraction is None else 0)
        elif n <= 2 * trim:  # here f is no way out, so the hint must be about `trim`
            raise ToleranceError(
                defense=f"TrimmedMean(trim={trim})",
                clients=n,
                byzantine=trim,
                needs=2 * trim + 1,
                allows=(n - 1) // 2,
            )
        everyone = torch.ones(n, dtype=torch.bool, device=updates.device)
        return Aggregate(trimmed_mean(updates, trim), everyone, notes={"trim": trim})

    def _trim(self, n: int, context: Context) -> int:
        return context.byzantine(self.trim) if self.fraction is None else int(self.fraction * n)
