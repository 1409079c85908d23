"""The largest distance at which Krum still picks the clones (white box).

Distances are quadratic in R: |w + R q - b_j|^2 = |w - b_j|^2 + 2 R <q, w - b_j> + R^2 |q|^2. One
Gram pass gives all coefficients, then each trial costs O(n m); a grid is refined three times.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from attacks._krum import picked
from fedalign.core.gram import gram, squared_distances

GRID = 33


def largest_radius(
    row: Tensor, step: Tensor, benign: Tensor, copies: int, keep: int, most: float
) -> float | None:
    """R for the row w (d,) moved along `step` q (d,), or None where Krum never picks it.

    benign: (b, d) submissions. copies: how many attackers send the row. keep: Krum's k.
    most: R is not searched beyond, inf for no such limit.
    """
    inner = gram(benign, row + step, origin=row)
    among = squared_distances(inner[:-1, :-1]).cpu().numpy()
    inner = inner.cpu().numpy()
    start, slope, square = inner.diagonal()[:-1], -inner[-1, :-1], inner[-1, -1]
    if square <= 0:
        return None
    reach = 2 * np.sqrt(start.max()) + np.sqrt(among.max())
    low, high = 0.0, min(reach / np.sqrt(square), most)
    for _ in range(3):
        radii = np.linspace(low, high, GRID)
        squared = start + radii[:, None] * (2 * slope + radii[:, None] * square)
        wins = np.flatnonzero(picked(among, np.maximum(squared, 0), copies, keep))
        if len(wins) == 0:
            return None
        last = int(wins[-1])
        low, high = radii[last], radii[min(last + 1, GRID - 1)]
    return float(low)
