"""Shares: a budget divided evenly, or in proportion to contributions.

Paper: none; the usual baselines.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import isfinite

from fedalign.core.errors import ConfigError


def uniform(n: int, budget: int) -> list[Fraction]:
    """budget / n for each of n; nobody to pay is no share."""
    return [Fraction(budget, n) for _ in range(n)]


def proportional(contributions: Sequence[float], budget: int) -> list[Fraction]:
    """budget c_u / sum c, exact, for c (n,) finite; negative ones count as 0, and if none is above
    0 the shares are uniform. The exact sum is the budget.

    ConfigError: a contribution that is not finite.
    """
    for client, value in enumerate(contributions):
        if not isfinite(value):
            raise ConfigError(
                f"Contributions must be finite to be paid in proportion, got {value} (position "
                f"{client})."
            )
    counted = [max(Fraction(value), Fraction(0)) for value in contributions]
    total = sum(counted)
    if total == 0:
        return uniform(len(counted), budget)
    return [budget * value / total for value in counted]
