"""A log nobody can edit quietly: every line carries the hash of the line before it.

A line is `{"hash": H(prev, body), "prev": ..., "body": {...}}` in canonical JSON. Non-finite
numbers are written as strings, so that any JSON reader can follow.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedalign.core.digest import canonical
from fedalign.core.errors import IntegrityError

GENESIS = "0" * 64


class Log:
    """Append-only events of one run. `length` (bytes) and `head` are what a checkpoint keeps."""

    def __init__(self, path: Path, length: int | None = None):
        """Open for appending; `length` cuts the file back to a checkpoint's length first."""
        self.head = GENESIS
        if path.exists():
            if length is not None:
                os.truncate(path, length)
            for _, self.head in read(path):
                pass
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
        self.length = path.stat().st_size

    def append(self, event: str, **body: Any) -> None:
        """Write one event; flushed to the system at once, so a killed process loses nothing."""
        text = canonical(_plain({"event": event, **body}))
        self.head = _link(self.head, text)
        line = f'{{"hash":"{self.head}","body":{text}}}\n'
        self._file.write(line)
        self._file.flush()
        self.length += len(line.encode())

    def sync(self) -> None:
        """Force to disk: called before a checkpoint names this length."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield (event, hash) per line; raise IntegrityError at the first line that does not link."""
    head = GENESIS
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = json.loads(line)
                body, claimed = entry["body"], entry["hash"]
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise IntegrityError(f"{path}:{number} is not a log line: {error}.") from error
            head = _link(head, canonical(body))
            if head != claimed:
                raise IntegrityError(
                    f"{path}:{number} was altered, or a line before it was removed: "
                    f"its hash should be {head[:12]}..., it says {str(claimed)[:12]}..."
                )
            yield body, head


def _link(previous: str, text: str) -> str:
    return hashlib.sha256(f"{previous}|{text}".encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
