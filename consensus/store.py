"""Store: updates by their root, each one checked before it is kept.

Paper: none; our derivation (content addressing: a name that proves what it names).
"""

from __future__ import annotations

import numpy as np

from consensus.pofel import merkle, payload
from fedalign.core.errors import DataError


class Store:
    """What one server holds. hashed: bytes it has hashed so far."""

    def __init__(self) -> None:
        self._held: dict[bytes, bytes] = {}
        self.hashed = 0

    def __contains__(self, root: bytes) -> bool:
        return root in self._held

    def put(self, values: np.ndarray, scale: int) -> tuple[bytes, int]:
        """Keep an update of one's own; its root and its length in bytes."""
        data = payload.to_bytes(values, scale)
        root = merkle.root_of(data)
        self.hashed += len(data)
        self._held[root] = data
        return root, len(data)

    def take(self, root: bytes, data: bytes, columns: int, scale: int) -> bool:
        """Keep what another server sent, if it is what the root names: d values at this scale."""
        self.hashed += len(data)
        if merkle.root_of(data) != root:
            return False
        try:
            values, s = payload.from_bytes(data)
        except DataError:
            return False
        if len(values) != columns or s != scale:
            return False
        self._held[root] = data
        return True

    def data(self, root: bytes) -> bytes:
        """The bytes behind a root."""
        return self._held[root]

    def values(self, root: bytes) -> np.ndarray:
        """The update behind a root, (d,) int64."""
        return payload.from_bytes(self._held[root])[0]

    def keep_only(self, roots: set[bytes]) -> None:
        """Forget what nobody can ask for any more."""
        self._held = {root: data for root, data in self._held.items() if root in roots}
