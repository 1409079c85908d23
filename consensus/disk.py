"""Disk: the few file operations a write-ahead log needs, on a real folder.

Paper: none; our derivation (small enough that a simulator can stand in and tear writes).
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Protocol

from fedalign.core.errors import ConfigError


class Disk(Protocol):
    """One flat folder. A failed sync must never be repeated: the pages may be gone (OSError)."""

    def names(self) -> list[str]:
        """The files there are, sorted."""

    def read(self, name: str) -> bytes:
        """All of a file."""

    def create(self, name: str, size: int) -> None:
        """A new file with room for `size` bytes; replaces an old one."""

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write in place; not durable before `sync`."""

    def truncate(self, name: str, size: int) -> None:
        """Forget everything from `size` on."""

    def sync(self, name: str) -> None:
        """What was written to this file survives a crash from here on."""

    def rename(self, old: str, new: str) -> None:
        """Atomic; durable after `sync_names`."""

    def remove(self, name: str) -> None:
        """Delete; durable after `sync_names`."""

    def sync_names(self) -> None:
        """Created, renamed and removed names survive a crash from here on."""


class FolderDisk:
    """A `Disk` in `folder`, which is created if it is missing."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._open: dict[str, int] = {}

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path.is_file())

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def create(self, name: str, size: int) -> None:
        self._release(name)
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
        self._open[name] = os.open(self.folder / name, flags, 0o600)
        if size:
            os.posix_fallocate(self._open[name], 0, size)

    def write(self, name: str, offset: int, data: bytes) -> None:
        view, handle = memoryview(data), self._handle(name)
        while view:
            written = os.pwrite(handle, view, offset)
            view, offset = view[written:], offset + written

    def truncate(self, name: str, size: int) -> None:
        os.ftruncate(self._handle(name), size)

    def sync(self, name: str) -> None:
        os.fdatasync(self._handle(name))

    def rename(self, old: str, new: str) -> None:
        self._release(new)
        os.rename(self.folder / old, self.folder / new)
        if old in self._open:
            self._open[new] = self._open.pop(old)

    def remove(self, name: str) -> None:
        self._release(name)
        os.unlink(self.folder / name)

    def sync_names(self) -> None:
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def close(self) -> None:
        """Give back all file handles."""
        for name in list(self._open):
            self._release(name)

    def _handle(self, name: str) -> int:
        if name not in self._open:
            self._open[name] = os.open(self.folder / name, os.O_RDWR)
        return self._open[name]

    def _release(self, name: str) -> None:
        if name in self._open:
            os.close(self._open.pop(name))


class FolderLock:
    """Holds `folder` for one process: a server started twice would sign and promise twice.

    The system lets go of it when the process ends, however it ends. Raises ConfigError if another
    holder lives.
    """

    def __init__(self, folder: Path):
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        path = folder.with_name(folder.name + ".lock")  # beside it: the folder holds the log alone
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._handle)
            raise ConfigError(
                f"{folder} is in use by another server: stop that one first, or give this one a "
                "folder and a key of its own."
            ) from error

    def release(self) -> None:
        """Let others in."""
        os.close(self._handle)

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_) -> None:
        self.release()
