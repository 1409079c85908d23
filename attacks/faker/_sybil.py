"""The Sybil family: many rows with one norm, one distance and one cosine.

alpha_s = p - V (cos(theta) u + sin(theta) z_s), with z_s e-orthonormal to 1 and u. Mutual inner
products are p^2 E + V^2 (cos^2 + sin^2 <z_s, z_t>): no two rows look alike.
"""

from __future__ import annotations

import numpy as np

from attacks.faker._plane import direction
from attacks.faker._sums import Sums


def family(
    sums: Sums, p: float, v: float, count: int, angle: float, rng: np.random.Generator
) -> np.ndarray:
    """alpha of `count` Sybils, (count, T'); angle theta in radians. The z_s are orthogonal to
    each other while there is room (count <= T' - 2), then random; below T' = 3 all are equal."""
    u = direction(sums, sums.ratios)
    root = np.sqrt(sums.energies)
    basis = [root / np.sqrt(sums.total), root * u]  # e-orthonormal becomes orthonormal
    room = len(u) - 2
    if room < 1 or v == 0:
        return np.tile(p - v * u, (count, 1))
    rows = []
    for _ in range(count):
        known = basis if len(basis) < len(u) else basis[:2]
        z = root * rng.standard_normal(len(u))
        for _ in range(2):
            for axis in known:
                z = z - (axis @ z) * axis
        z = z / np.sqrt(z @ z)
        basis.append(z)
        rows.append(p - v * (np.cos(angle) * u + np.sin(angle) * z / root))
    return np.stack(rows)
