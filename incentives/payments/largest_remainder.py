"""LargestRemainder: exact amounts become whole base units without losing one.

Paper: none; Hamilton's method of apportionment.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor, isfinite

from fedalign.core.errors import ConfigError


def largest_remainder(
    amounts: Sequence[Fraction | float | int], ids: Sequence[int] | None = None
) -> list[int]:
    """Whole units >= 0 that sum to the whole part of the exact sum of `amounts` (n,), each the
    amount rounded down or up: what rounding down leaves over goes, one unit each, to the largest
    fractional parts; equal ones to the lowest id (default: the position).

    ConfigError: an amount that is negative or not finite, ids of another length or twice the same.
    """
    ids = list(range(len(amounts))) if ids is None else list(ids)
    if len(ids) != len(amounts) or len(set(ids)) != len(ids):
        raise ConfigError(
            f"Payments that would not sum: {len(amounts)} amounts for {len(set(ids))} different "
            f"accounts ({len(ids)} named); give one amount per account."
        )
    for client, amount in zip(ids, amounts, strict=True):
        if not isfinite(amount) or amount < 0:
            raise ConfigError(
                f"Payments that would not sum: account {client} would get {amount}; amounts must "
                "be finite and 0 or more."
            )
    exact = [Fraction(amount) for amount in amounts]
    units = [floor(amount) for amount in exact]
    left = floor(sum(exact)) - sum(units)
    order = sorted(range(len(ids)), key=lambda i: (units[i] - exact[i], ids[i]))
    for i in order[:left]:
        units[i] += 1
    return units
