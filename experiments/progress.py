"""What a study says while it runs: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from experiments.compose import Cell

PLAIN_EVERY_S = 5.0


class Progress:
    """Counts cells; time left is what the finished ones took, spread over the rest."""

    def __init__(self, console: Console):
        self._console = console
        self._bar: Bar | None = None

    def begin(self, total: int, reused: int, stale: int, workers: int) -> None:
        self._total, self._done, self._failed = total, reused, 0
        self._start, self._reused, self._spoke = monotonic(), reused, monotonic()
        self._warm = 2 * workers
        word = "cell" if total == 1 else "cells"
        kept = f", {reused} already finished" if reused else ""
        self._console.print(f"{total} {word}{kept}; {workers} side by side", highlight=False)
        if stale:
            self._console.print(
                f"{stale} of them were finished by other code and are stale: they are computed "
                "again (reuse=any keeps them)",
                highlight=False,
            )
        if self._console.is_terminal and sys.stdout.isatty():
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=total, completed=reused, left="")
            self._bar.start()

    def started(self, cell: Cell) -> None:
        if self._bar:
            self._bar.update(self._task, description=_name(cell))

    def finished(self, cell: Cell, reason: str) -> None:
        self._done += 1
        self._failed += bool(reason)
        if reason:
            self._console.print(f"failed: {_name(cell)}: {reason}", highlight=False, markup=False)
        if self._bar:
            self._bar.update(self._task, completed=self._done, left=self._left())
        elif monotonic() - self._spoke > PLAIN_EVERY_S or self._done == self._total:
            self._spoke = monotonic()
            self._console.print(
                f"{self._done} of {self._total} cells{self._left(', ')}", highlight=False
            )

    def end(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _left(self, before: str = "") -> str:
        """Empty until every worker has played two cells: the first ones bear the warm-up."""
        played, rest = self._done - self._reused, self._total - self._done
        if not rest or played < min(self._warm, self._total - self._reused):
            return ""
        seconds = (monotonic() - self._start) / played * rest
        return f"{before}{duration(seconds)} left"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _name(cell: Cell) -> str:
    return " ".join(f"{axis}={label}" for axis, label in cell.axes.items()) or cell.run_id
