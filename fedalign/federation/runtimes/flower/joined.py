"""The grid of the ServerApp that is running in this thread, if one is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

REPORT = "fedalign-report: "  # begins the line in which a ServerApp says how its run ended
_GRID: ContextVar[Any] = ContextVar("grid", default=None)


@contextmanager
def joined(grid: Any) -> Iterator[None]:
    """Inside, a `Flower` runtime sends its messages over `grid`."""
    token = _GRID.set(grid)
    try:
        yield
    finally:
        _GRID.reset(token)


def present() -> Any | None:
    """The grid of this thread's ServerApp, or None outside of one."""
    return _GRID.get()
