"""Award: who wins an auction and what it is paid.

Paper: none; the outcome of a procurement auction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite

from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class Award:
    """winners: ascending positions. payments: (n,), 0 for losers."""

    winners: Sequence[int]
    payments: Sequence[float | Fraction]

    @staticmethod
    def of(n: int, won: dict[int, float | Fraction]) -> Award:
        """From winner -> payment."""
        return Award(tuple(sorted(won)), tuple(won.get(i, 0.0) for i in range(n)))


def check_bids(name: str, values: Sequence[float]) -> None:
    """ConfigError unless every number is finite and 0 or more."""
    for i, value in enumerate(values):
        if not (isfinite(value) and value >= 0):
            raise ConfigError(f"{name} must be finite and 0 or more, got {value} (bidder {i}).")
