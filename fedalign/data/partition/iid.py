"""IID: every client gets an equal random share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class Iid:
    """Shuffle and deal; sizes differ by at most one."""

    def __call__(
        self, labels: np.ndarray, clients: int, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """labels: (N,) -> `clients` disjoint index arrays that cover all rows."""
        enough(labels, clients)
        return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), clients)]


def check_least(min_samples: int) -> None:
    """Refuse a minimum that leaves clients without data."""
    if min_samples < 1:
        raise ConfigError(f"partition.min_samples must be 1 or more, got {min_samples}.")


def enough(labels: np.ndarray, clients: int, each: int = 1) -> None:
    """Refuse more clients than the samples can serve."""
    if clients * each > len(labels):
        raise ConfigError(
            f"{clients} clients with at least {each} sample(s) each need {clients * each} samples, "
            f"the data set has {len(labels)} for clients: lower clients to {len(labels) // each}."
        )
