"""Exact logs: decimal arithmetic of 34 digits, the same on every machine, cut to micro-nats.

Source: IEEE 754-2008 decimal128; `Decimal.ln` and `exp` are correctly rounded.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import lru_cache

MICRO = 1_000_000
CONTEXT = Context(prec=34, rounding=ROUND_HALF_EVEN)


def exact():
    """A block in which Decimal operations use 34 digits, whatever the caller's context."""
    return localcontext(CONTEXT)


@lru_cache(maxsize=65_536)
def ln(numerator: int, denominator: int) -> Decimal:
    """ln(numerator / denominator) of positive integers."""
    with exact():
        return Decimal(numerator).ln() - Decimal(denominator).ln()


def micro(value: Decimal) -> int:
    """To the nearest millionth as an integer, ties to even."""
    return int((value * MICRO).to_integral_value(rounding=ROUND_HALF_EVEN))


def round_half_even(numerator: int, denominator: int) -> int:
    """The integer nearest numerator / denominator (> 0), ties to even."""
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient % 2))
