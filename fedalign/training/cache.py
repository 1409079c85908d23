"""What is expensive and never changes, kept on disk by the hash of what made it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedalign.core import memory
from fedalign.core.digest import of_data
from fedalign.core.errors import IntegrityError


@dataclass(frozen=True)
class Cache:
    """folder: null takes $FEDALIGN_CACHE, else fedalign/ in the user's cache folder."""

    folder: str | None = None

    @property
    def path(self) -> Path:
        """Where entries lie."""
        if self.folder is not None:
            return Path(self.folder)
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(os.environ.get("FEDALIGN_CACHE") or Path(base) / "fedalign")

    def get(self, kind: str, key: Any, make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """The entry of a plain-data key, made on first use. One process makes it, others wait; a
        damaged entry is made again."""
        folder = self.path / kind
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{of_data(key)[:32]}.safetensors"
        with open(folder / f".{file.stem}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if file.is_file():
                try:
                    return memory.read(file)
                except IntegrityError:
                    file.unlink()
            made = make()
            memory.write(file, made, durable=True)
            return memory.read(file)


class Uncached(Cache):
    """Makes everything anew: for ranks that compute together, where none may wait for another's
    entry while that one waits for it."""

    def get(self, kind: str, key: Any, make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        return make()
