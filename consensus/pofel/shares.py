"""Shares: split a whole into integers in proportion, exactly.

Paper: none; the largest-remainder method (Hamilton apportionment), ties to the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction


def split(whole: int, parts: Sequence[int | Fraction]) -> list[int]:
    """Non-negative integers proportional to `parts` (none negative) that add up to `whole`.

    All parts 0: nobody gets anything.
    """
    total = sum(parts)
    if total <= 0:
        return [0] * len(parts)
    exact = [Fraction(whole) * Fraction(part) / total for part in parts]
    result = [int(x) for x in exact]  # floors: none is negative
    order = sorted(range(len(parts)), key=lambda i: (result[i] - exact[i], i))
    for i in order[: whole - sum(result)]:
        result[i] += 1
    return result
