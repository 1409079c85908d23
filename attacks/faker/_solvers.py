"""Faker's closed forms on (n_g, e_g): norm, distance, balance, product.

Each returns alpha over the free groups, (T',) float64. `limit` is a_max, None for none.
"""

from __future__ import annotations

import numpy as np

from attacks.faker._sums import Sums


def fill(ratios: np.ndarray, energies: np.ndarray, budget: float, limit: float | None):
    """delta_g = min(kappa x_g, limit) with sum e delta^2 = budget^2: the largest sum n delta.

    Water filling: with k groups below the limit (the smallest ratios), kappa^2 =
    (budget^2 - limit^2 E_rest) / sum_k e x^2; the right k is the largest consistent one. Where
    even delta = limit stays below the budget, that is the answer.
    """
    kappa = budget / np.sqrt((energies * ratios**2).sum())
    if limit is None or kappa * ratios.max() <= limit:
        return kappa * ratios
    if limit**2 * energies.sum() <= budget**2:
        return np.full_like(ratios, limit)
    order = np.argsort(ratios, kind="stable")
    x, e = ratios[order], energies[order]
    rest = np.append(np.cumsum(e[::-1])[::-1][1:], 0.0)
    left = budget**2 - limit**2 * rest
    kappas = np.sqrt(np.maximum(left, 0) / np.cumsum(e * x**2))
    k = int(np.flatnonzero((left > 0) & (kappas * x <= limit))[-1])
    return np.minimum(kappas[k] * ratios, limit)


def norm(sums: Sums, bound: float, limit: float | None = None, even: bool = False) -> np.ndarray:
    """Solver N: |w'| = bound, Delta = N + bound sqrt(H); `even`: plain sign flip."""
    budget = np.sqrt(max(bound**2 - sums.frozen, 0.0))
    return -fill(_ratios(sums, even), sums.energies, budget, limit)


def distance(
    sums: Sums, radius: float, signs: np.ndarray | float = -1.0, limit=None, even: bool = False
) -> np.ndarray:
    """Solver D: |w' - w| = radius, Delta = radius sqrt(H), for any signs (T',) in +-1."""
    if limit is not None:  # alpha = 1 + delta must stay in [-limit, limit]
        limit = limit - 1 if np.any(np.asarray(signs) > 0) else limit + 1
    return 1 + signs * fill(_ratios(sums, even), sums.energies, radius, limit)


def product(sums: Sums, bound: float, limit: float | None = None) -> np.ndarray:
    """Theorem 2's objective at its maximum: alpha ~ 1/sqrt(E) + x/sqrt(H), scaled to |w'| = bound.

    With a limit, x is winsorised at the largest group value that keeps every alpha within it.
    """
    x, e, total = sums.ratios, sums.energies, sums.total
    budget = np.sqrt(max(bound**2 - sums.frozen, 0.0))
    shape = _bisector(x, e, total)
    scale = budget / np.sqrt((e * shape**2).sum())
    if limit is None or scale * shape.max() <= limit:
        return scale * shape
    for cap in np.sort(x)[::-1]:
        shape = _bisector(np.minimum(x, cap), e, total)
        scale = budget / np.sqrt((e * shape**2).sum())
        if scale * shape.max() <= limit:
            return scale * shape
    return np.full_like(x, limit)


def balance(
    sums: Sums, drawn: np.ndarray, *, bound: float | None = None, radius: float | None = None
) -> np.ndarray:
    """The paper's fast solution: all scalars but the last are `drawn` (T'-1,), the last solves
    the norm budget, or the distance budget where `radius` is given. Where the drawn ones already
    spend more than the budget, their deviations shrink by sqrt(budget / needed).
    """
    e, last = sums.energies[:-1], sums.energies[-1]
    start = 0.0 if radius is None else 1.0
    allowed = radius**2 if radius is not None else max(bound**2 - sums.frozen, 0.0)
    deviations = np.asarray(drawn, dtype=np.float64) - start
    needed = float((e * deviations**2).sum())
    if needed > allowed:
        deviations, needed = deviations * np.sqrt(allowed / needed), allowed
    return start + np.append(deviations, np.sqrt(max(allowed - needed, 0.0) / last))


def best_scalar(count: float, energy: float, inner: float, square: float, linear: float) -> float:
    """Theorem 2: the positive maximiser of one scalar of the product objective, others fixed.

    count, energy: n and e of its group. inner, square, linear: sum e a, sum e a^2, sum n a over
    the others (lambda, beta, gamma). Positive root of
    e (lambda n + e gamma) a^2 + 2 e (lambda gamma - n beta) a - beta (e gamma + n lambda) = 0.
    """
    lead = energy * (inner * count + energy * linear)
    half = energy * (inner * linear - count * square)
    tail = square * (energy * linear + count * inner)
    return (-half + np.sqrt(half**2 + lead * tail)) / lead


def _ratios(sums: Sums, even: bool) -> np.ndarray:
    return np.full_like(sums.ratios, sums.number / sums.total) if even else sums.ratios


def _bisector(x: np.ndarray, e: np.ndarray, total: float) -> np.ndarray:
    return 1 / np.sqrt(total) + x / np.sqrt((e * x**2).sum())
