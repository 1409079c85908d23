"""Shapley: a client's contribution is its marginal worth, averaged over all orders of joining.

Paper: Shapley, "A Value for n-Person Games", Contributions to the Theory of Games II, 1953, Eq. (13).
"""

from __future__ import annotations

from math import comb

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.payments.coalitions import Worth

LIMIT = 12  # clients: 4096 coalitions


def shapley(worth: Worth, n: int) -> np.ndarray:
    """phi (n,) float64: sum over S without u of |S|! (n - |S| - 1)! / n! (v(S + u) - v(S)).

    Values all 2^n coalitions, so n <= 12; ConfigError above.
    """
    if n > LIMIT:
        raise ConfigError(
            f"Exact Shapley values need 2^n coalitions: at most {LIMIT} clients, got {n}; sample "
            "permutations instead."
        )
    sets = np.arange(2**n)
    inside = (sets[:, None] >> np.arange(n)) & 1  # (2^n, n): who is in which coalition
    values = np.array([worth(tuple(np.flatnonzero(row).tolist())) for row in inside], dtype=float)
    sizes = inside.sum(axis=1)
    weights = np.array([1 / (n * comb(n - 1, size)) if size < n else 0.0 for size in range(n + 1)])
    result = np.empty(n)
    for u in range(n):
        without = sets[inside[:, u] == 0]
        gains = values[without | 1 << u] - values[without]
        result[u] = weights[sizes[without]] @ gains
    return result
