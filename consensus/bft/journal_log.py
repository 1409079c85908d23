"""JournalLog: a BFT server's journal on a disk, in the segments of the write-ahead log.

Each record is one entry of that log, so torn tails, damage and lost segments are dealt with there.

Paper: none; our derivation.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.disk import Disk
from consensus.encoding import pack, unpack
from consensus.raft.messages import ConfState, Entry, EntryKind, Snapshot
from consensus.wal import WriteAheadLog


class JournalLog:
    """Records on `disk`; segment_bytes and reserve as in `WriteAheadLog`."""

    def __init__(self, disk: Disk, segment_bytes: int = 64 << 20, reserve: bool = True):
        self._log = WriteAheadLog(disk, ConfState(), segment_bytes, reserve)
        self._last = 0

    def load(self) -> list[bytes]:
        """All records, oldest first; IntegrityError if durable ones are damaged."""
        durable = self._log.load()
        kept = unpack(durable.snapshot.data) if durable.snapshot.data else ()
        self._last = durable.snapshot.index + len(durable.entries)
        return [*kept, *(entry.data for entry in durable.entries)]

    def append(self, records: Sequence[bytes]) -> None:
        """Write records as one batch; durable after `sync`."""
        entries = [
            Entry(1, index, EntryKind.NORMAL, record)
            for index, record in enumerate(records, self._last + 1)
        ]
        self._last += len(entries)
        self._log.save(None, entries, None, sync=False)

    def sync(self) -> None:
        """Everything appended survives a crash. A failure is final: stop the server."""
        self._log.sync()

    def replace(self, records: Sequence[bytes]) -> None:
        """These records stand for all before them, durably; older segments are dropped."""
        snapshot = Snapshot(self._last, 1, ConfState(), pack(tuple(records)))
        self._log.save(None, (), snapshot, sync=True)
