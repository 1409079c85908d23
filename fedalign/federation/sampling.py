"""Who takes part in a round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class Sampling:
    """Uniform sampling without replacement.

    clients: n in all (>= 1). participation: share that takes part in a round, in (0, 1].
    attackers: ids of the malicious ones.
    """

    clients: int
    participation: float = 1.0
    attackers: Sequence[int] = ()

    def __post_init__(self) -> None:
        if not 0 < self.participation <= 1:
            raise ConfigError(f"participation must lie in (0, 1], got {self.participation}.")

    @property
    def size(self) -> int:
        """Clients per round."""
        return max(1, round(self.participation * self.clients))

    @property
    def byzantine_count(self) -> int:
        """f that rules are told: the attackers expected in a round, rounded up."""
        return min(ceil(self.participation * len(self.attackers) - 1e-9), self.size)

    def within(self, members: Sequence[int]) -> Sampling:
        """The same among the devices of one edge; `draw` then answers with their places."""
        inside = set(members)
        lying = [client for client in self.attackers if client in inside]
        return Sampling(len(members), self.participation, lying)

    def draw(self, rng: np.random.Generator) -> list[int]:
        """Client ids of one round, ascending."""
        if self.size == self.clients:
            return list(range(self.clients))
        return sorted(rng.choice(self.clients, self.size, replace=False).tolist())


def choose_attackers(clients: int, fraction: float, rng: np.random.Generator) -> tuple[int, ...]:
    """round(fraction * clients) random clients, ascending; fraction in [0, 1)."""
    if not 0 <= fraction < 1:
        raise ConfigError(f"byzantine_fraction must lie in [0, 1), got {fraction}.")
    count = round(fraction * clients)
    return tuple(sorted(rng.choice(clients, count, replace=False).tolist()))
