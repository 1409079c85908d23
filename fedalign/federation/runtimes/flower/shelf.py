"""A node's shelf: private client memories in a folder of the node, one file per version.

The server names which version a client continues from and never sees what is in it. So a round
that is repeated after a crash, or an answer that came too late, changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from fedalign.core import memory
from fedalign.core.contracts import Memory
from fedalign.core.errors import IntegrityError


class Shelf:
    """folder: this node's, for one run. Files: <client>/<turn>.safetensors."""

    def __init__(self, folder: Path):
        self.folder = folder

    def read(self, client: int, turn: int | None) -> Memory:
        """The memory that `client` had after `turn`; None: it has none yet."""
        if turn is None:
            return {}
        path = self._path(client, turn)
        if not path.is_file():
            raise IntegrityError(
                f"The memory of client {client} after turn {turn} is not in {self.folder}: keep "
                "the state_dir of a node for as long as its run can be continued."
            )
        return memory.read(path)

    def write(self, client: int, turn: int, content: Memory, keep: Iterable[int | None]) -> None:
        """Store a new version; every version that is neither new nor in `keep` is removed."""
        path = self._path(client, turn)
        path.parent.mkdir(parents=True, exist_ok=True)
        memory.write(path, content, durable=False)
        kept = {path.name, *(self._path(client, old).name for old in keep if old is not None)}
        for name in os.listdir(path.parent):
            if name not in kept:
                (path.parent / name).unlink(missing_ok=True)

    def _path(self, client: int, turn: int) -> Path:
        return self.folder / str(client) / f"{turn:08d}.safetensors"
