"""MTA instance: tasks with prices and deadlines, servers with capacities, and what a pair is worth.

Paper: following "Multiple task allocation" (arXiv 2208.05120);
the value of a pair is the clean version derived there, `legacy_reward` the public code's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from fedalign.core.errors import ConfigError

REJECTED = -1


@dataclass(frozen=True)
class MTAInstance:
    """m tasks and n servers; all arrays float64 but `owner`.

    price: (m,) paid per cycle of work, finite. data: (m,) units > 0. limit: (m,) seconds > 0.
    owner: (m,) the server that uploaded the task, 0 ... n-1. capacity: (n,) cycles >= 0.
    frequency: (n,) cycles per second > 0. cycles: (n,) cycles per unit of data > 0.
    power: (n,) watts >= 0. rate: (n,) units of data per second > 0.
    alpha: energy coefficient of computing, >= 0. legacy_reward: what the public code pays for a
    task that its owner cannot process: minus the transmission energy to the owner, 0 to others.
    """

    price: np.ndarray
    data: np.ndarray
    limit: np.ndarray
    owner: np.ndarray
    capacity: np.ndarray
    frequency: np.ndarray
    cycles: np.ndarray
    power: np.ndarray
    rate: np.ndarray
    alpha: float = 1e-5
    legacy_reward: bool = False

    def __post_init__(self):
        m, n = len(self.price), len(self.capacity)
        for field in fields(self)[:9]:
            kind = np.int64 if field.name == "owner" else np.float64
            array = np.asarray(getattr(self, field.name), dtype=kind)
            array = np.array(array)  # a copy of our own, so that it may be locked
            array.setflags(write=False)
            object.__setattr__(self, field.name, array)
            wanted = m if field.name in ("price", "data", "limit", "owner") else n
            if array.shape != (wanted,) or not np.isfinite(array).all() or not wanted:
                raise ConfigError(
                    f"MTA instance: {field.name} must hold {wanted or 'one or more'} finite "
                    f"numbers, got shape {array.shape}: {m} tasks meet {n} servers."
                )
        for name in ("data", "limit", "frequency", "cycles", "rate"):
            if getattr(self, name).min() <= 0:
                raise ConfigError(
                    f"MTA instance: every {name} must be above 0, got {getattr(self, name).min()}."
                )
        for name in ("capacity", "power"):
            if getattr(self, name).min() < 0:
                raise ConfigError(
                    f"MTA instance: no {name} may be negative, got {getattr(self, name).min()}."
                )
        if not 0 <= self.owner.min() <= self.owner.max() < n:
            raise ConfigError(
                f"MTA instance: owners are servers 0 to {n - 1}, got {self.owner.min()} to "
                f"{self.owner.max()}."
            )
        if not (np.isfinite(self.alpha) and self.alpha >= 0):
            raise ConfigError(f"MTA instance: alpha must be 0 or more, got {self.alpha}.")

    @property
    def tasks(self) -> int:
        return len(self.price)

    @property
    def servers(self) -> int:
        return len(self.capacity)

    @cached_property
    def work(self) -> np.ndarray:  # (m, n) cycles
        return self.data[:, None] * self.cycles

    @cached_property
    def seconds(self) -> np.ndarray:  # (m, n) computing, and transmission unless at the owner
        return self.work / self.frequency + self._foreign * self._transmission[:, None]

    @cached_property
    def value(self) -> np.ndarray:  # (m, n) price less computing and transmission energy
        computing = self.alpha * self.work * self.frequency**2
        sending = self._foreign * (self.power[self.owner] * self._transmission)[:, None]
        return self.price[:, None] * self.work - computing - sending

    @cached_property
    def allowed(self) -> np.ndarray:  # (m, n) on an empty server, and in time
        return (self.work <= self.capacity) & (self.seconds <= self.limit[:, None])

    @cached_property
    def useful(self) -> np.ndarray:  # (m, n) allowed and worth something
        return self.allowed & (self.value > 0)

    @cached_property
    def unit(self) -> float:
        """The largest value of a useful pair: rewards are in units of it; 1 if there is none."""
        return float(self.value[self.useful].max()) if self.useful.any() else 1.0

    @cached_property
    def reward(self) -> np.ndarray:  # (m, n) what the environment pays, not yet in units
        if not self.legacy_reward:
            return self.value
        own = np.arange(self.tasks), self.owner
        paid, lost = self.value.copy(), ~self.allowed[own]
        paid[lost] = 0.0
        paid[own] = np.where(lost, -self.power[self.owner] * self._transmission, paid[own])
        return paid

    @cached_property
    def by_price(self) -> np.ndarray:
        """Tasks (m,) by falling price, ties in the order given."""
        return np.argsort(-self.price, kind="stable")

    @property
    def _transmission(self) -> np.ndarray:  # (m,) seconds from the owner to anybody
        return self.data / self.rate[self.owner]

    @property
    def _foreign(self) -> np.ndarray:  # (m, n)
        return self.owner[:, None] != np.arange(self.servers)
