"""Dirichlet: every class is dealt to clients in Dirichlet(alpha) proportions.

Paper: Hsu et al., "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
Classification", 2019, Section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from fedalign.data.partition.iid import check_least, enough


@dataclass(frozen=True)
class Dirichlet:
    """Label skew. alpha: > 0; 0.1 is strong skew, 100 almost IID. min_samples: the fewest a
    client may hold (>= 1); draws are repeated until they are met, at most `tries` times."""

    alpha: float = 0.5
    min_samples: int = 10
    tries: int = 100

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ConfigError(f"partition.alpha must be above 0, got {self.alpha}; try 0.1 or 0.5.")
        check_least(self.min_samples)

    def __call__(
        self, labels: np.ndarray, clients: int, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """labels: (N,) -> `clients` disjoint index arrays that cover all rows."""
        enough(labels, clients, self.min_samples)
        for _ in range(self.tries):
            parts = self._draw(labels, clients, rng)
            if min(len(part) for part in parts) >= self.min_samples:
                return parts
        raise ConfigError(
            f"dirichlet(alpha={self.alpha}) over {clients} clients left one below "
            f"{self.min_samples} samples in all {self.tries} draws: raise partition.alpha, "
            "lower clients or partition.min_samples."
        )

    def _draw(self, labels, clients, rng) -> list[np.ndarray]:
        parts: list[list[np.ndarray]] = [[] for _ in range(clients)]
        for label in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == label))
            shares = rng.dirichlet(np.full(clients, self.alpha))
            borders = np.round(shares.cumsum()[:-1] * len(rows)).astype(int)
            for part, share in zip(parts, np.split(rows, borders), strict=True):
                part.append(share)
        return [np.sort(np.concatenate(part)) for part in parts]
