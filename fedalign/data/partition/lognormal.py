"""Log-normal: clients hold the same mixture of classes, in amounts as real users have them.

Paper: Caldas et al., "LEAF: A Benchmark for Federated Settings", 2018 (skewed samples per user; its
synthetic data draws them log-normally).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from fedalign.data.partition.iid import check_least
from fedalign.data.partition.quantity import dealt


@dataclass(frozen=True)
class LogNormal:
    """Sizes in proportion to exp(sigma z), z ~ N(0, 1). sigma: >= 0, 0 = equal. min_samples: every
    client gets at least that many (>= 1), the rest is dealt in proportion."""

    sigma: float = 1.0
    min_samples: int = 10

    def __post_init__(self) -> None:
        if not self.sigma >= 0:
            raise ConfigError(f"partition.sigma must be 0 or more, got {self.sigma}; try 1.")
        check_least(self.min_samples)

    def __call__(
        self, labels: np.ndarray, clients: int, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """labels: (N,) -> `clients` disjoint index arrays that cover all rows."""
        sizes = np.exp(self.sigma * rng.standard_normal(clients))
        return dealt(labels, sizes / sizes.sum(), self.min_samples, rng)
