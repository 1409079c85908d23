"""Norm, distance and cosine at once: two numbers (p, V) decide, the direction is free.

alpha = p - V u with u e-orthonormal to 1 gives |w'|^2 = p^2 E + V^2, |w' - w|^2 = (p-1)^2 E + V^2
and cos = p sqrt(E) / |w'|. In the half plane (y = p sqrt(E), V >= 0) the budgets are two discs and
a cone, the objective N (1 - p) + V sqrt(K) is linear: its maximum is one of a dozen points.
"""

from __future__ import annotations

from math import hypot, sqrt

import numpy as np

from attacks.faker._sums import Sums

FLAT = 1e-24  # spread K below this share of H: all ratios are equal
TOLERANCE = 1e-9


def best_point(
    sums: Sums,
    *,
    bound: float | None = None,
    radius: float | None = None,
    tau: float | None = None,
    floor: float = 0.0,
    even: bool = False,
) -> tuple[float, float]:
    """(p, V) of solver 2D; None omits a budget. floor: least |w'|, which keeps the zero vector out.

    even: maximise the distance |w' - w| (Delta_2) instead. Without a feasible point: (1, 0).
    """
    root, lift = sqrt(sums.total), sqrt(sums.spread)
    flat = len(sums.energies) < 2

    def feasible(y: float, v: float) -> bool:
        length, slack = hypot(y, v), TOLERANCE * root
        return (
            v >= -slack
            and (not flat or v <= slack)
            and (bound is None or length <= bound + slack)
            and (radius is None or hypot(y - root, v) <= radius + slack)
            and (tau is None or y >= tau * length - slack)
            and length >= floor - slack
        )

    def value(y: float, v: float) -> float:
        if even:
            return hypot(y - root, v)
        return sums.number * (1 - y / root) + v * lift

    points = _candidates(root, (-sums.number / root, lift), bound, radius, tau)
    points = [point for point in points if feasible(*point)]
    y, v = max(points, key=lambda point: value(*point), default=(root, 0.0))
    return y / root, max(v, 0.0)


def best_point_beside_frozen(sums: Sums, *, bound, radius, tau, floor, even=False):
    """The same where energy F keeps alpha = 1: |w'| and the cosine then count it too.

    The norm budget becomes sqrt(bound^2 - F); the cone is met by bisecting an inner tau.
    """
    if sums.frozen <= 1e-15 * sums.total:
        return best_point(sums, bound=bound, radius=radius, tau=tau, floor=floor, even=even)
    if bound is not None and bound**2 <= sums.frozen:
        return 1.0, 0.0
    inner = {
        "bound": None if bound is None else sqrt(bound**2 - sums.frozen),
        "radius": radius,
        "floor": sqrt(max(floor**2 - sums.frozen, 0.0)),
        "even": even,
    }

    def cosine(p: float, v: float) -> float:
        square = p * p * sums.total + v * v
        total = sums.frozen + sums.total
        return (sums.frozen + p * sums.total) / sqrt(total * (sums.frozen + square))

    free = best_point(sums, tau=None, **inner)
    if tau is None or cosine(*free) >= tau:
        return free
    low, high = -1.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        ok = cosine(*best_point(sums, tau=middle, **inner)) >= tau
        low, high = (low, middle) if ok else (middle, high)
    point = best_point(sums, tau=high, **inner)
    return point if cosine(*point) >= tau - TOLERANCE else (1.0, 0.0)


def place(sums: Sums, p: float, v: float, limit: float | None = None) -> np.ndarray:
    """alpha = p - V u along the best direction, winsorised so that no |alpha| exceeds `limit`."""
    if v == 0:
        return np.full_like(sums.ratios, p)
    u = direction(sums, sums.ratios)
    if limit is None or max(p - v * u.min(), v * u.max() - p) <= limit:
        return p - v * u
    x = sums.ratios
    for _ in range(4):  # a cap on one side lifts the other a little
        x = _capped(x, sums.energies, (limit + p) / v)
        x = -_capped(-x, sums.energies, (limit - p) / v)
        u = direction(sums, x)
        if max(p - v * u.min(), v * u.max() - p) <= limit * (1 + TOLERANCE):
            return p - v * u
    # No direction of this length fits: a shorter row keeps every upper budget and the cosine.
    if p < 0:
        return (p - v * u) * (limit / np.abs(p - v * u).max())
    return p - max(0.0, min((limit + p) / u.max(), (limit - p) / -u.min())) * u


def direction(sums: Sums, x: np.ndarray) -> np.ndarray:
    """x made e-orthogonal to 1 and e-unit; an alternating direction where all x are equal."""
    u = _centred(x, sums.energies)
    if (sums.energies * u**2).sum() <= FLAT * (sums.energies * x**2).sum():
        u = _centred(np.where(np.arange(len(x)) % 2, 1.0, -1.0), sums.energies)
    length = np.sqrt((sums.energies * u**2).sum())
    return u / length if length > 0 else u


def _centred(x: np.ndarray, e: np.ndarray) -> np.ndarray:
    for _ in range(2):  # twice is enough, also where x is nearly constant
        x = x - (e * x).sum() / e.sum()
    return x


def _capped(x: np.ndarray, e: np.ndarray, highest: float) -> np.ndarray:
    """min(x, cap) with the largest cap, among the values of x, whose e-unit direction stays
    below `highest`; sort and prefix sums give all of them at once."""
    order = np.argsort(x, kind="stable")
    y, w = x[order] - (e * x).sum() / e.sum(), e[order]
    total, above = w.sum(), w.sum() - np.cumsum(w)
    mean = (np.cumsum(w * y) + y * above) / total
    spread = np.cumsum(w * y**2) + y**2 * above - total * mean**2
    with np.errstate(divide="ignore", invalid="ignore"):
        top = np.where(spread > 1e-12 * spread.max(), (y - mean) / np.sqrt(spread), np.inf)
    fits = np.flatnonzero(top <= highest)
    return np.minimum(x, x[order[fits[-1]]]) if len(fits) else x


def _candidates(root, slope, bound, radius, tau) -> list[tuple[float, float]]:
    points = [(root, 0.0), (0.0, 0.0)]
    steep = hypot(*slope)
    unit = (slope[0] / steep, slope[1] / steep)
    if bound is not None:
        points += [(bound * unit[0], bound * unit[1]), (-bound, 0.0), (bound, 0.0)]
    if radius is not None:
        points += [(root + radius * unit[0], radius * unit[1]), (root - radius, 0.0)]
    if bound is not None and radius is not None:
        y = (bound**2 - radius**2 + root**2) / (2 * root)
        if y * y <= bound**2:
            points.append((y, sqrt(bound**2 - y * y)))
    if tau is not None:
        points += _on_cone(root, bound, radius, tau)
    return points


def _on_cone(root, bound, radius, tau) -> list[tuple[float, float]]:
    points = []
    if bound is not None:
        points.append((bound * tau, bound * sqrt(1 - tau * tau)))
    if radius is not None and tau == 0:
        if radius >= root:
            points.append((0.0, sqrt(radius**2 - root**2)))
    elif radius is not None:
        k = sqrt(1 - tau * tau) / tau
        rest = root**2 - (1 + k * k) * (root**2 - radius**2)
        if rest >= 0:
            points += [((root + s * sqrt(rest)) / (1 + k * k),) * 2 for s in (-1, 1)]
            points[-2:] = [(y, k * y) for y, _ in points[-2:]]
    return points
