"""The three sums per group on which every similarity of a scaled model depends.

For w' = alpha * w with one scalar per group: |w'|^2 = F + sum e a^2, <w', w> = F + sum e a,
|w' - w|^2 = sum e (a - 1)^2, where F is the energy of what must not move.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

NEGLIGIBLE = 1e-20  # groups with less than this share of the energy keep alpha = 1


@dataclass(frozen=True)
class Sums:
    """Groups that may move. All arrays (T',) float64, T' the number of free groups.

    counts: n_g. energies: e_g > 0. frozen: F, energy of everything that keeps alpha = 1.
    free: (T,) bool, which of the original groups these are.
    """

    counts: np.ndarray
    energies: np.ndarray
    free: np.ndarray
    frozen: float = 0.0

    @staticmethod
    def of(
        counts: np.ndarray,
        energies: np.ndarray,
        movable: np.ndarray | None = None,
        frozen: float = 0.0,
    ) -> Sums:
        """Drop groups without energy and those not `movable` (T,); `frozen`: energy besides."""
        free = energies > NEGLIGIBLE * (energies.sum() + frozen)
        if movable is not None:
            free &= movable
        kept = frozen + float(energies[~free].sum())
        return Sums(counts[free], energies[free], free, kept)

    def complete(self, alpha: np.ndarray) -> np.ndarray:
        """(..., T') -> (..., T), with 1 where a group must not move."""
        whole = np.ones((*alpha.shape[:-1], len(self.free)))
        whole[..., self.free] = alpha
        return whole

    @cached_property
    def total(self) -> float:
        """E, the energy of the free groups."""
        return float(self.energies.sum())

    @cached_property
    def number(self) -> float:
        """N, how many free parameters."""
        return float(self.counts.sum())

    @cached_property
    def ratios(self) -> np.ndarray:
        """x_g = n_g / e_g."""
        return self.counts / self.energies

    @cached_property
    def curvature(self) -> float:
        """H = sum n_g^2 / e_g."""
        return float((self.counts * self.ratios).sum())

    @cached_property
    def spread(self) -> float:
        """K = |x - N/E|_e^2 = H - N^2/E, computed without cancellation."""
        return float((self.energies * (self.ratios - self.number / self.total) ** 2).sum())

    def norm(self, alpha: np.ndarray) -> float:
        """|w'|."""
        return float(np.sqrt(self.frozen + (self.energies * alpha**2).sum()))

    def distance(self, alpha: np.ndarray) -> float:
        """|w' - w|."""
        return float(np.sqrt((self.energies * (alpha - 1) ** 2).sum()))

    def cosine(self, alpha: np.ndarray) -> float:
        """cos(w', w); 0 for the zero vector."""
        length = np.sqrt(self.frozen + self.total) * self.norm(alpha)
        inner = self.frozen + float((self.energies * alpha).sum())
        return float(inner / length) if length > 0 else 0.0

    def difference(self, alpha: np.ndarray) -> float:
        """Delta = sum n_g |alpha_g - 1|."""
        return float((self.counts * np.abs(alpha - 1)).sum())
