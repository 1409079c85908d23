"""A node's shelf: private client memories, one file per version in a folder of the node, or in
this process where the node is no more than that.

The server names which version a client continues from and never sees what is in it. So a round
that is repeated after a crash, or an answer that came too late, changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
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


class HeldShelf:
    """The same without files. kept: client -> turn -> memory."""

    def __init__(self, kept: dict[int, dict[int, Memory]]):
        self._kept = kept

    def read(self, client: int, turn: int | None) -> Memory:
        """See `Shelf.read`."""
        if turn is None:
            return {}
        if turn not in self._kept.get(client, {}):
            raise IntegrityError(f"This process holds no memory of client {client} after {turn}.")
        return self._kept[client][turn]

    def write(self, client: int, turn: int, content: Memory, keep: Iterable[int | None]) -> None:
        """See `Shelf.write`."""
        there = self._kept.setdefault(client, {})
        there[turn] = content
        for old in set(there) - {turn, *keep}:
            del there[old]


@dataclass(frozen=True)
class Held:
    """The memories of all nodes of this process, by run and node."""

    kept: dict[tuple[str, int], dict[int, dict[int, Memory]]] = field(default_factory=dict)

    def shelf(self, run: str, node: int) -> HeldShelf:
        """A node's shelf for one run."""
        return HeldShelf(self.kept.setdefault((run, node), {}))
