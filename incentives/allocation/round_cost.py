"""Round cost: the least energy a server needs to finish its part of a round in time.

Paper: following arXiv 2206.02243 (value function of one server).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RoundCost:
    """All servers at once, arrays (N,) float64.

    With s = T - t seconds for C = C1 + C2 gigacycles and F gigahertz: f1 = f2 = C / s where
    2 C / s <= F; else all of F is used and s f1^2 + (C2 - C1 - s F) f1 + C1 F = 0, the root of
    less energy. Convex and decreasing in T; below `fastest` there is no answer.
    """

    training: np.ndarray  # C1
    consensus: np.ndarray  # C2
    communication_s: np.ndarray  # t
    capacity: np.ndarray  # F
    kappa: float

    @property
    def fastest(self) -> np.ndarray:  # (N,) seconds
        roots = np.sqrt(self.training) + np.sqrt(self.consensus)
        return self.communication_s + roots**2 / self.capacity

    def split(self, finish_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f1, f2 (N,) gigahertz of least energy that finish at `finish_s` (N,)."""
        s = finish_s - self.communication_s
        even = (self.training + self.consensus) / s
        capped = 2 * even > self.capacity
        first = np.where(capped, self._capped(s), even)
        return first, np.where(capped, self.capacity - first, even)

    def energy(self, finish_s: np.ndarray) -> np.ndarray:  # (N,) joules
        f1, f2 = self.split(finish_s)
        return self.kappa * (self.training * f1**2 + self.consensus * f2**2)

    def slope(self, finish_s: np.ndarray) -> np.ndarray:
        """dE/dT (N,), negative; minus infinity at `fastest` unless C1 = C2."""
        return self.derivatives(finish_s)[0]

    def derivatives(self, finish_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """dE/dT and d2E/dT2 (N,). With room -2 kappa C^3 / s^3 and 6 kappa C^3 / s^4; else with
        N = dE/df1 = 2 kappa (C1 f1 - C2 f2), D = ds/df1 = C2/f2^2 - C1/f1^2: N/D, (N'D - ND')/D^3.
        """
        f1, f2 = self.split(finish_s)
        s = finish_s - self.communication_s
        c1, c2 = self.training, self.consensus
        slope = -2 * self.kappa * (c1 + c2) ** 3 / s**3
        bend = -3 * slope / s
        capped = 2 * (c1 + c2) / s > self.capacity
        if capped.any():
            push = 2 * self.kappa * (c1 * f1 - c2 * f2)
            give = c2 / f2**2 - c1 / f1**2
            grows = 2 * self.kappa * (c1 + c2) * give - push * 2 * (c2 / f2**3 + c1 / f1**3)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                edge = give == 0  # at `fastest` itself
                slope = np.where(capped, np.where(edge, -np.inf, push / give), slope)
                bend = np.where(capped, np.where(edge, np.inf, grows / give**3), bend)
        return slope, bend

    def _capped(self, s: np.ndarray) -> np.ndarray:  # f1 (N,)
        middle = self.consensus - self.training - s * self.capacity
        square = middle**2 - 4 * s * self.training * self.capacity
        root = np.sqrt(np.maximum(square, 0.0))  # below 0 by rounding only
        # Energy alone would choose f1 = F C2 / C, which is too slow and lies below both roots
        # where C1 > C2, above both where C1 < C2: so these are the roots of less energy.
        return (-middle - np.where(self.training >= self.consensus, root, -root)) / (2 * s)
