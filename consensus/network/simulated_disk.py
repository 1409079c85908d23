"""SimulatedDisk: a disk on which a crash loses, keeps or tears what was not forced to it.

Every write that was not synced survives by the toss of a coin, independently; the last one may
be cut at any byte. A sync may be told to fail.

Paper: none; our derivation (fault model of Pillai et al., "All File Systems Are Not Created
Equal", OSDI 2014).
"""

from __future__ import annotations

from errno import ENOSPC

import numpy as np


class _File:
    """Bytes as they are seen, and how to undo what is not durable."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self.pending: list[tuple[int, bytes, bytes, int]] = []  # offset, new, old, length before

    def write(self, offset: int, data: bytes) -> None:
        before = len(self.bytes)
        old = bytes(self.bytes[offset : offset + len(data)])
        if offset > before:
            self.bytes.extend(bytes(offset - before))
        self.bytes[offset : offset + len(data)] = data
        self.pending.append((offset, data, old, before))

    def crash(self, rng: np.random.Generator) -> None:
        writes, self.pending = self.pending, []
        for offset, _, old, before in reversed(writes):
            self.bytes[offset : offset + len(old)] = old
            del self.bytes[before:]
        for position, (offset, data, _, _) in enumerate(writes):
            if rng.random() < 0.5:
                continue
            if position == len(writes) - 1:
                data = data[: int(rng.integers(len(data) + 1))]
            self.write(offset, data)
        self.pending = []


class SimulatedDisk:
    """A `Disk` in memory. `fail_sync` makes the next sync fail, and with it the server; while it is
    `full` nothing can be written."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._durable: dict[str, _File] = {}
        self._changes: list[tuple[str, str, _File]] = []  # old, new; "": created, removed
        self.fail_sync = self.full = False
        self.syncs = 0

    def names(self) -> list[str]:
        return sorted(self._files)

    def read(self, name: str) -> bytes:
        return bytes(self._files[name].bytes)

    def create(self, name: str, size: int) -> None:
        self._room()
        self._files[name] = _File()
        self._files[name].bytes.extend(bytes(size))
        self._changes.append(("", name, self._files[name]))

    def write(self, name: str, offset: int, data: bytes) -> None:
        self._room()
        self._files[name].write(offset, data)

    def truncate(self, name: str, size: int) -> None:
        file = self._files[name]
        del file.bytes[size:]
        file.pending = []

    def sync(self, name: str) -> None:
        if self.fail_sync:
            self.fail_sync = False
            raise OSError("simulated: the disk could not force its pages out")
        self.syncs += 1
        self._files[name].pending = []

    def _room(self) -> None:
        if self.full:
            raise OSError(ENOSPC, "simulated: no space left on the disk")

    def rename(self, old: str, new: str) -> None:
        self._files[new] = self._files.pop(old)
        self._changes.append((old, new, self._files[new]))

    def remove(self, name: str) -> None:
        self._changes.append((name, "", self._files.pop(name)))

    def sync_names(self) -> None:
        self._durable, self._changes = dict(self._files), []

    def crash(self, rng: np.random.Generator) -> None:
        """The power fails: draw what the disk holds afterwards."""
        files = dict(self._durable)
        for old, new, file in self._changes:
            if rng.random() < 0.5:
                continue
            files.pop(old, None)
            if new:
                files[new] = file
        for name in sorted(files):
            files[name].crash(rng)
        self._files, self._durable, self._changes = files, dict(files), []
