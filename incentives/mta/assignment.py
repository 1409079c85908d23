"""Assignment: which server each task went to, what it earns and what it violates.

Paper: following arXiv 2208.05120 (generalised assignment).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.mta.instance import REJECTED, MTAInstance


@dataclass(frozen=True)
class Assignment:
    """server: (m,) the server of each task, -1 for a rejected one."""

    instance: MTAInstance
    server: np.ndarray

    def __post_init__(self):
        server, n = np.asarray(self.server, dtype=np.int64), self.instance.servers
        object.__setattr__(self, "server", server)
        if server.shape != (self.instance.tasks,):
            raise ConfigError(
                f"An assignment names one server for each of {self.instance.tasks} tasks, got "
                f"shape {server.shape}."
            )
        if server.min() < REJECTED or server.max() >= n:
            raise ConfigError(
                f"An assignment names servers 0 to {n - 1}, or -1 for a rejected task; got "
                f"{server.min()} to {server.max()}."
            )

    @property
    def value(self) -> float:
        """The objective: the sum over served tasks."""
        return float(self.instance.value[self._served].sum())

    @property
    def served(self) -> int:
        return int((self.server != REJECTED).sum())

    @property
    def load(self) -> np.ndarray:  # (n,) cycles
        return self._summed(self.instance.work)

    @property
    def revenue(self) -> np.ndarray:  # (n,) value earned by each server
        return self._summed(self.instance.value)

    @property
    def utilisation(self) -> float:
        """Used share of all capacity, 0 to 1."""
        total = self.instance.capacity.sum()
        return float(self.load.sum() / total) if total else 0.0

    @property
    def late(self) -> int:
        """Tasks finished after their limit."""
        pair = self._served
        return int((self.instance.seconds[pair] > self.instance.limit[pair[0]]).sum())

    @property
    def overfull(self) -> int:
        """Servers given more cycles than they have."""
        return int((self.load > self.instance.capacity * (1 + 1e-12)).sum())

    @property
    def jain(self) -> float:
        """Jain's index of server revenue: 1 equal, 1/n one server earns all; 1 if nobody earns."""
        x = self.revenue
        return float(x.sum() ** 2 / (len(x) * (x**2).sum())) if x.any() else 1.0

    @property
    def _served(self) -> tuple[np.ndarray, np.ndarray]:
        tasks = np.flatnonzero(self.server != REJECTED)
        return tasks, self.server[tasks]

    def _summed(self, matrix: np.ndarray) -> np.ndarray:
        pair = self._served
        return np.bincount(pair[1], weights=matrix[pair], minlength=self.instance.servers)
