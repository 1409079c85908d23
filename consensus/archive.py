"""Archive: the final blocks of a chain, each with its seal and the entries that led to it.

Files of length-prefixed parts, written aside and renamed; none is ever changed.

Paper: none; our derivation.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from consensus.encoding import decode, encode
from consensus.pofel.messages import Entry
from consensus.pofel.seal import Seal
from fedalign.core.errors import DataError


@dataclass(frozen=True)
class Record:
    """One height. stream: entries in order, the last one is the accepted BLOCK. seal: FINAL
    messages over it. snapshot: the round machine's state behind it. told: what the block says of
    the round before, whose hash is in its facts."""

    stream: tuple[Entry, ...]
    seal: Seal
    snapshot: bytes
    told: bytes

    def encode(self) -> bytes:
        stream = [entry.encode() for entry in self.stream]
        return encode([stream, self.seal.encode(), self.snapshot, self.told])

    @staticmethod
    def decode(data: bytes) -> Record:
        """Raises DataError."""
        items = decode(data)
        if not isinstance(items, tuple) or len(items) != 4 or not isinstance(items[0], tuple):
            raise DataError("A block's record is its stream, seal, snapshot and what it tells.")
        stream, seal, snapshot, told = items
        entries = tuple(map(Entry.decode, stream))
        return Record(entries, Seal.decode(seal), bytes(snapshot), bytes(told))


class Archive:
    """blocks/000001.block ... in a folder; without a folder only the last record is kept."""

    def __init__(self, folder: Path | None):
        self._folder = None if folder is None else folder / "blocks"
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)

    def heights(self) -> Sequence[int]:
        """Those on disk, ascending."""
        if self._folder is None:
            return []
        return sorted(int(path.stem) for path in self._folder.glob("*.block"))

    def read(self, height: int) -> Record:
        """Raises DataError where the file is damaged."""
        assert self._folder is not None
        path = self._path(height)
        try:
            return Record.decode(path.read_bytes())
        except DataError as error:
            raise DataError(f"{path} is no block: {error}") from error

    def write(self, height: int, record: Record) -> None:
        """Keep a final block for ever."""
        if self._folder is None:
            return
        path = self._path(height)
        aside = path.with_suffix(f".{os.getpid()}")
        with open(aside, "wb") as file:
            file.write(record.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)

    def _path(self, height: int) -> Path:
        return self._folder / f"{height:06d}.block"
