"""Byzantine quorum arithmetic: how many of n make a quorum, and how many may lie.

Paper: Buchman, Kwon and Milosevic, arXiv 1807.04938, Section 3 (with n - f instead of 2f + 1:
at n = 5, 6, 8, ... two sets of 2f + 1 need not share an honest server).
"""

from __future__ import annotations


def faulty(n: int) -> int:
    """f: the most of n servers that may lie, f < n / 3."""
    return (n - 1) // 3


def quorum(n: int) -> int:
    """The fewest that make a quorum, floor(2n / 3) + 1 = n - f: two share an honest server."""
    return 2 * n // 3 + 1


def some_honest(n: int) -> int:
    """The fewest among which one is honest, f + 1."""
    return faulty(n) + 1
