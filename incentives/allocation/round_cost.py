"""Round cost: the least energy a server needs to finish its part of a round in time.

Paper: following arXiv 2206.02243, Section 3.1 of our specification (value function of one server).
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
        return self._energy(*self.split(finish_s))

    def slope(self, finish_s: np.ndarray) -> np.ndarray:
        """dE/dT (N,), negative; minus infinity at `fastest` unless C1 = C2."""
        f1, f2 = self.split(finish_s)
        s = finish_s - self.communication_s
        cycles = self.training + self.consensus
        free = -2 * self.kappa * cycles**3 / s**3
        push = 2 * self.kappa * (self.training * f1 - self.consensus * f2)
        give = self.consensus / f2**2 - self.training / f1**2
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = np.where(give == 0, -np.inf, push / give)
        return np.where(2 * cycles / s > self.capacity, bound, free)

    def curvature(self, finish_s: np.ndarray) -> np.ndarray:
        """d2E/dT2 (N,) where capacity does not bind: 6 kappa C^3 / s^4."""
        s = finish_s - self.communication_s
        return 6 * self.kappa * (self.training + self.consensus) ** 3 / s**4

    def _energy(self, f1: np.ndarray, f2: np.ndarray) -> np.ndarray:
        return self.kappa * (self.training * f1**2 + self.consensus * f2**2)

    def _capped(self, s: np.ndarray) -> np.ndarray:  # f1 (N,)
        middle = self.consensus - self.training - s * self.capacity
        square = middle**2 - 4 * s * self.training * self.capacity
        root = np.sqrt(np.maximum(square, 0.0))  # below 0 by rounding only
        low, high = (-middle - root) / (2 * s), (-middle + root) / (2 * s)
        less = self._energy(low, self.capacity - low) <= self._energy(high, self.capacity - high)
        return np.where(less, low, high)
