"""Classes: every client holds samples of only a few classes.

Paper: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
AISTATS 2017, Section 3 (the pathological split); the Faker study uses five classes per client.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from fedalign.data.partition.iid import enough


@dataclass(frozen=True)
class Classes:
    """per_client: classes each client holds (1 .. number of classes).

    Classes are dealt like cards, round after round of all classes in random order, so that every
    class has a holder and holders differ by at most one; a class is shared evenly by its holders.
    """

    per_client: int = 5

    def __call__(
        self, labels: np.ndarray, clients: int, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """labels: (N,) -> `clients` disjoint index arrays that cover all rows."""
        enough(labels, clients)
        known = np.unique(labels)
        if not 1 <= self.per_client <= len(known):
            raise ConfigError(
                f"partition.per_client must be 1 to {len(known)} (the number of classes), "
                f"got {self.per_client}."
            )
        if clients * self.per_client < len(known):
            raise ConfigError(
                f"{clients} clients with {self.per_client} classes each cannot hold "
                f"{len(known)} classes: raise clients or partition.per_client."
            )
        held = self._deal(len(known), clients, rng)
        parts: list[list[np.ndarray]] = [[] for _ in range(clients)]
        for index, label in enumerate(known):
            holders = [client for client in range(clients) if index in held[client]]
            rows = rng.permutation(np.flatnonzero(labels == label))
            for client, share in zip(holders, np.array_split(rows, len(holders)), strict=True):
                parts[client].append(share)
        result = [np.sort(np.concatenate(part)) for part in parts]
        if min(map(len, result)) == 0:
            raise ConfigError(
                f"classes(per_client={self.per_client}) over {clients} clients leaves one without "
                "samples: lower clients."
            )
        return result

    def _deal(self, classes: int, clients: int, rng: np.random.Generator) -> list[set[int]]:
        held: list[set[int]] = [set() for _ in range(clients)]
        deck: list[int] = []
        for _ in range(self.per_client):
            for client in rng.permutation(clients):
                fitting = [card for card in deck if card not in held[client]]
                if not fitting:
                    deck += rng.permutation(classes).tolist()
                    fitting = [card for card in deck if card not in held[client]]
                deck.remove(fitting[0])
                held[client].add(fitting[0])
        return held
