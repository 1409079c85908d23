"""Network: a sorting network, cut down to the wires that somebody wants to read.

Sorting n values by fixed compare-exchanges needs no branches, so a whole block of columns is
sorted at once by elementwise minima and maxima of rows: no transpose, no indices. What is not
read is not computed: comparators whose two results are both unread, or both only enter the same
sum, fall away, walking backwards.

Paper: Batcher, "Sorting Networks and Their Applications", AFIPS 1968 (odd-even merge).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from functools import lru_cache

import numpy as np


class Role(IntEnum):
    """What becomes of a sorted position: unread, one summand among others, or read by itself."""

    UNREAD = 0
    SUMMED = 1
    READ = 2


@lru_cache(maxsize=256)
def network(roles: tuple[Role, ...]) -> np.ndarray:
    """Comparators (steps, 3) for wires with these roles, smallest value first; read-only.

    A step (low, high, wanted) leaves the minimum in wire `low` if wanted is 1 or 3, the maximum
    in wire `high` if it is 2 or 3. Afterwards READ wires hold their sorted values, SUMMED ones
    theirs in any order, the rest means nothing.
    """
    role, kept = list(roles), []
    for low, high in reversed(list(_comparators(len(roles)))):
        a, b = role[low], role[high]
        if a == b != Role.READ:
            continue  # both unread, or exchanging two summands of one sum: no effect
        kept.append((low, high, (a != Role.UNREAD) + 2 * (b != Role.UNREAD)))
        role[low] = role[high] = Role.READ
    steps = np.array(kept[::-1], dtype=np.int64).reshape(-1, 3)
    steps.flags.writeable = False
    return steps


def _comparators(n: int) -> Iterator[tuple[int, int]]:
    """Batcher's network, in order."""
    p = 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                for low in range(j, min(j + k, n - k)):
                    if low // (2 * p) == (low + k) // (2 * p):
                        yield low, low + k
            k //= 2
        p *= 2
