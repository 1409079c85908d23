"""Judge: which entries may be ordered: well-formed ones of members, and no phase's end too early.

A proposer that could end a phase at once would keep out everybody whose message is on its way.

Paper: none; our derivation (a proposer takes its turn within f + 1 heights, see `Timeouts`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import inf

from consensus.pofel.effects import SetTimer
from consensus.pofel.marks import time_out_ms
from consensus.pofel.messages import Entry, Kind
from consensus.server import PARTIAL, Server
from fedalign.core.errors import DataError

REMEMBERED = 4096  # entries looked at


class Judge:
    """One server's, for one height: asked before it prevotes, or leads what others want ordered.
    Once it said yes it stays with it.

    now_ms: the server's clock; only differences count. The driver tells `started` of every timer.
    refused: entries that can never be of this chain, by reason; each counts once.
    """

    def __init__(self, server: Server, now_ms: Callable[[], float]):
        self._server, self._now_ms = server, now_ms
        self._from: dict[tuple[int, int, int], float] = {}  # (round, phase, rank) -> ms
        self._entries: dict[bytes, Entry | None] = {}  # None: refused for ever
        self._accepted: set[bytes] = set()
        self.refused: Counter[str] = Counter()

    def started(self, timer: SetTimer) -> None:
        """A phase, or its last part, begins here. Work that it allows for comes on top."""
        if timer.rank == PARTIAL:
            return
        settings, place = self._server.machine.settings, (timer.round, timer.phase, timer.rank)
        work_ms = timer.after_ms - time_out_ms(settings, timer.phase, timer.rank)
        earliest = self._now_ms() + work_ms + settings.timeouts.least_ms
        self._from[place] = min(self._from.get(place, inf), earliest)

    def __call__(self, height: int, batch: Sequence[bytes]) -> bool:
        return all(self._may(data) for data in batch)

    def admits(self, data: bytes) -> bool:
        """Whether these bytes can be an entry of this chain at all: its form, signer, chain."""
        return self._entry(data) is not None

    def _may(self, data: bytes) -> bool:
        if data not in self._accepted:
            entry = self._entry(data)
            if entry is None or self._early(entry):
                return False
            self._accepted.add(data)
        return True

    def _entry(self, data: bytes) -> Entry | None:
        if data not in self._entries:
            try:
                entry: Entry | None = Entry.decode(data)
                reason = self._server.machine.admit(entry)
            except DataError:
                entry, reason = None, "malformed"
            if reason:
                self.refused[reason] += 1
            if len(self._entries) >= REMEMBERED:
                self._entries.pop(next(iter(self._entries)))
            self._entries[data] = None if reason else entry
        return self._entries[data]

    def _early(self, entry: Entry) -> bool:
        """Whether it would end a phase that has not lasted long enough here, or not begun."""
        if entry.kind is not Kind.MARK or not entry.content.timeout:
            return False  # what it needs is in the stream
        state, mark = self._server.machine.state, entry.content
        place = entry.round, mark.phase, mark.rank
        if place < (state.round, state.phase, state.rank):
            return False  # over: it changes nothing
        return self._now_ms() < self._from.get(place, inf)
