"""WriteAheadLog: what a Raft server must not forget, in segments that survive torn writes.

Segments wal-cN (stands alone) and wal-sN (continues) share one numbering.

Each batch is one write: what was durable before (MARK), the hard state, then the entries. A torn
batch therefore never keeps entries without the commit index they were sent with. After a crash
the log ends at the first bad record, unless a later MARK says that this place had been forced to
disk: then a stored promise is damaged, and the server must not start.

A snapshot begins a new segment that needs none of the older ones; it appears by renaming.

Paper: none; our derivation (segments and forcing as in Mohan et al.,
"ARIES", TODS 1992).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import sha256

from consensus import wal_records as records
from consensus.disk import Disk
from consensus.raft.messages import ConfState, Entry, HardState, Snapshot
from consensus.raft.storage import Durable, MemoryStorage
from consensus.wal_records import Type
from fedalign.core.errors import ConfigError, IntegrityError


class WriteAheadLog:
    """A `Storage` on a disk.

    disk: where. initial: the configuration a first start begins with. segment_bytes: size at
    which a new segment begins, reserved ahead if `reserve` (>= 4096).
    """

    def __init__(
        self,
        disk: Disk,
        initial: ConfState = ConfState(),
        segment_bytes: int = 64 << 20,
        reserve: bool = True,
    ):
        if segment_bytes < 4096:
            raise ConfigError(f"segment_bytes must be at least 4096, got {segment_bytes}.")
        self.disk, self.segment_bytes, self.reserve = disk, segment_bytes, reserve
        self._memory = MemoryStorage(Durable(snapshot=Snapshot(conf=initial)))
        self._sequence = self._end = self._synced = self._marked = 0

    # ------------------------------------------------------------------ starting

    def load(self) -> Durable:
        """Recover; IntegrityError if something is damaged that had been durable."""
        for name in self.disk.names():
            if name.endswith(".tmp"):
                self.disk.remove(name)
        segments = self._recoverable()
        if not segments:
            self._checkpoint()
            return self._memory.load()
        for position, name in enumerate(segments):
            self._replay(name, last=position == len(segments) - 1)
        memory = self._memory
        last = memory.snapshot.index + len(memory.entries)
        term, vote, commit = memory.hard_state
        # A torn batch may have kept a commit index without the entries it belongs to.
        memory.hard_state = HardState(term, vote, min(commit, last))
        return memory.load()

    def _recoverable(self) -> list[str]:
        """Segments from the last one that stands alone; a last one without a head is dropped."""
        names = sorted((n for n in self.disk.names() if n.startswith("wal-")), key=_sequence)
        if names and not _starts(self.disk.read(names[-1])):
            name = names.pop()
            if any(mark > 0 for mark in records.marks_after(self.disk.read(name), 0)):
                raise IntegrityError(_damage(name, 0))
            self.disk.remove(name)
        alone = [name for name in names if name.startswith("wal-c")]
        if names and not alone:
            raise IntegrityError(
                "The log does not begin: its first segment is missing. Restore the folder or let "
                "the server rejoin under a new id."
            )
        return [name for name in names if _sequence(name) >= max(map(_sequence, alone))]

    def _replay(self, name: str, last: bool) -> None:
        data, end = self.disk.read(name), 0
        for found in records.read_all(data):
            if found.type is Type.SEGMENT:
                self._check_chain(name, found.payload)
            else:
                self._remember(name, found)
            end = found.end
        if any(mark > end for mark in records.marks_after(data, end)):
            raise IntegrityError(_damage(name, end))
        self._sequence, self._end = _sequence(name), end
        self._name = name
        if last:
            self.disk.truncate(name, end)  # or old bytes could one day follow new ones
            self.disk.sync(name)
        self._synced, self._marked = end, 0

    def _check_chain(self, name: str, payload: bytes) -> None:
        sequence, before = struct.unpack("<QQ", payload)
        if sequence != _sequence(name):
            raise IntegrityError(f"{name} says to be segment {sequence}: files were mixed up.")
        if name.startswith("wal-c"):
            return
        if sequence != self._sequence + 1:
            raise IntegrityError(f"Segment {sequence - 1} before {name} is missing.")
        if before != self._end:
            raise IntegrityError(_damage(self._name, self._end))

    def _remember(self, name: str, found: records.Record) -> None:
        memory = self._memory
        if found.type is Type.HARD_STATE:
            memory.hard_state = records.to_hard_state(found.payload)
        elif found.type is Type.SNAPSHOT:
            meta, digest = records.to_snapshot(found.payload)
            file = _snapshot_name(meta)
            data = self.disk.read(file) if file in self.disk.names() else None
            if data is None or sha256(data).digest() != digest:
                raise IntegrityError(f"Snapshot {file} of {name} is missing or damaged.")
            memory.save(None, (), meta._replace(data=data))
        elif found.type is Type.ENTRIES:
            batch = records.to_entries(found.payload)
            if batch[0].index > memory.snapshot.index + len(memory.entries) + 1:
                raise IntegrityError(_damage(name, found.offset))
            memory.save(None, batch, None)

    # ------------------------------------------------------------------ writing

    def save(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        snapshot: Snapshot | None,
        sync: bool,
    ) -> None:
        """Write one batch; with a snapshot always forced to disk."""
        self._memory.save(hard_state, entries, snapshot)
        if snapshot is not None:
            self._checkpoint()
            return
        batch = b""
        if self._synced > self._marked:
            batch, self._marked = (
                records.record(Type.MARK, struct.pack("<Q", self._synced)),
                self._synced,
            )
        if hard_state is not None:
            batch += records.hard_state(hard_state)
        if entries:
            batch += records.entries(entries)
        if self._end + len(batch) > self.segment_bytes:
            self._next_segment()
        self._append(batch)
        if sync:
            self.sync()

    def sync(self) -> None:
        """Everything saved so far survives a crash. A failure is final: stop the server."""
        self.disk.sync(self._name)
        self._synced = self._end

    def _append(self, data: bytes) -> None:
        self.disk.write(self._name, self._end, data)
        self._end += len(data)

    def _next_segment(self) -> None:
        self.sync()
        before, self._sequence = self._end, self._sequence + 1
        self._name, self._end, self._marked = f"wal-s{self._sequence:015d}", 0, 0
        self.disk.create(self._name, self.segment_bytes if self.reserve else 0)
        self._append(records.record(Type.SEGMENT, struct.pack("<QQ", self._sequence, before)))
        self.sync()
        self.disk.sync_names()

    def _checkpoint(self) -> None:
        """Begin a segment with all there is to know, then drop the older ones."""
        memory, self._sequence = self._memory, self._sequence + 1
        file = _snapshot_name(memory.snapshot)
        self._write_whole(file, memory.snapshot.data, 0)
        old = [name for name in self.disk.names() if name != file]
        name = f"wal-c{self._sequence:015d}"
        batch = records.record(Type.SEGMENT, struct.pack("<QQ", self._sequence, self._end))
        batch += records.hard_state(memory.hard_state)
        batch += records.snapshot(memory.snapshot, sha256(memory.snapshot.data).digest())
        if memory.entries:
            batch += records.entries(memory.entries)
        self._write_whole(name, batch, self.segment_bytes if self.reserve else 0)
        self._name, self._end, self._synced, self._marked = name, len(batch), len(batch), 0
        for name in old:
            self.disk.remove(name)

    def _write_whole(self, name: str, data: bytes, room: int) -> None:
        """A file that is there completely or not at all."""
        temporary = f"{name}.tmp"
        self.disk.create(temporary, room)
        self.disk.write(temporary, 0, data)
        self.disk.sync(temporary)
        self.disk.rename(temporary, name)
        self.disk.sync_names()


def _starts(data: bytes) -> bool:
    found = records.read(data, 0)
    return found is not None and found.type is Type.SEGMENT


def _sequence(name: str) -> int:
    return int(name[5:])


def _snapshot_name(snapshot: Snapshot) -> str:
    return f"snap-{snapshot.index:016d}-{snapshot.term:016d}"


def _damage(name: str, offset: int) -> str:
    return (
        f"{name} is damaged at byte {offset}, though what is there had been forced to disk. "
        "Promises made from it are lost: restore the file or let the server rejoin under a new id."
    )
