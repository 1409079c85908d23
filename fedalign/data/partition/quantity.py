"""Quantity: clients hold the same mixture of classes, but very different amounts.

Paper: Li et al., "Federated Learning on Non-IID Data Silos: An Experimental Study", ICDE 2022,
Section IV-C (quantity skew).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from fedalign.data.partition.iid import check_least, enough


@dataclass(frozen=True)
class Quantity:
    """Sizes in Dirichlet(alpha) proportions. alpha: > 0, small = unequal. min_samples: every
    client gets at least that many (>= 1), the rest is dealt in proportion."""

    alpha: float = 0.5
    min_samples: int = 10

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ConfigError(f"partition.alpha must be above 0, got {self.alpha}; try 0.5.")
        check_least(self.min_samples)

    def __call__(
        self, labels: np.ndarray, clients: int, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """labels: (N,) -> `clients` disjoint index arrays that cover all rows."""
        return dealt(labels, rng.dirichlet(np.full(clients, self.alpha)), self.min_samples, rng)


def dealt(
    labels: np.ndarray, shares: np.ndarray, least: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Random rows: `least` for everybody, the rest by shares (clients,) that add up to 1."""
    clients = len(shares)
    enough(labels, clients, least)
    spare = len(labels) - clients * least
    extra = np.diff(np.round(np.concatenate([[0.0], shares.cumsum()]) * spare).astype(int))
    extra[-1] += spare - extra.sum()
    borders = (extra + least).cumsum()[:-1]
    return [np.sort(part) for part in np.split(rng.permutation(len(labels)), borders)]
