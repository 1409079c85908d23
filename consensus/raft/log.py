"""Log: the replicated entries in memory, and how far they are durable, committed and applied.

    offset < ... applied <= committed <= last,   stable <= handed <= last

`handed` marks what drivers have been given to write, `stable` what they reported durable.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Sections 3.5 and 5.1.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from consensus.raft.messages import Entry, Snapshot
from fedalign.core.errors import IntegrityError


class Log:
    """Entries offset+1 .. last; everything up to offset is only in `snapshot`."""

    __slots__ = (
        "_bytes", "applied", "applying", "committed", "entries", "handed", "offset", "offset_term",
        "pending_snapshot", "snapshot", "snapshot_handed", "stable",
    )  # fmt: skip

    def __init__(self, snapshot: Snapshot, entries: Sequence[Entry], committed: int):
        self.snapshot = snapshot
        self.pending_snapshot: Snapshot | None = None  # received, not yet durable
        self.snapshot_handed = False
        self.offset, self.offset_term = snapshot.index, snapshot.term
        self.entries: list[Entry] = []
        self._bytes: list[int] = [0]  # running total of payload bytes, one more than entries
        self.committed = self.applied = self.applying = snapshot.index
        self.stable = self.handed = snapshot.index
        self._extend(entries)
        self.stable = self.handed = self.last
        self.commit_to(max(committed, snapshot.index))

    @property
    def last(self) -> int:
        """Index of the last entry."""
        return self.offset + len(self.entries)

    @property
    def last_term(self) -> int:
        """Term of the last entry."""
        return self.entries[-1][0] if self.entries else self.offset_term

    def term(self, index: int) -> int | None:
        """The term of an entry; None if it is compacted away or does not exist."""
        position = index - self.offset - 1
        if position == -1:
            return self.offset_term
        return self.entries[position][0] if 0 <= position < len(self.entries) else None

    def has(self, index: int, term: int) -> bool:
        """Is this very entry here?"""
        return self.term(index) == term

    def up_to_date(self, index: int, term: int) -> bool:
        """Is a log that ends in (index, term) at least as good as this one?"""
        return term > self.last_term or (term == self.last_term and index >= self.last)

    def slice(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        """Entries first .. last, cut to max_bytes of payload but never to nothing."""
        start, stop = first - self.offset - 1, last - self.offset
        if self._bytes[stop] - self._bytes[start] > max_bytes:
            fits = bisect_right(self._bytes, self._bytes[start] + max_bytes) - 1
            stop = max(start + 1, min(stop, fits))
        return self.entries[start:stop]

    def size(self, first: int, last: int) -> int:
        """Payload bytes of entries first .. last."""
        return self._bytes[last - self.offset] - self._bytes[first - self.offset - 1]

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries, which begin at or below last + 1; what they replace is cut off first."""
        if entries[0][1] <= self.last:
            self._cut(entries[0][1])
        self._extend(entries)

    def _extend(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        if entries[0][1] != self.last + 1:
            raise IntegrityError(f"Raft log ends at {self.last} but is to grow at {entries[0][1]}.")
        total = self._bytes.pop()
        self.entries.extend(entries)
        self._bytes.extend(accumulate([len(entry[3]) for entry in entries], initial=total))

    def _cut(self, index: int) -> None:
        if index <= self.committed:
            raise IntegrityError(
                f"Raft log was to be cut at {index}, but entries up to {self.committed} are "
                "committed: a rule of the protocol is broken."
            )
        del self.entries[index - self.offset - 1 :]
        del self._bytes[index - self.offset :]
        self.stable, self.handed = min(self.stable, index - 1), min(self.handed, index - 1)

    def accept(self, index: int, term: int, entries: Sequence[Entry]) -> int | None:
        """A leader's append after (index, term): the last index now in agreement, None if refused.

        Only entries from the first conflict on are replaced: an old or repeated append that
        matches must not shorten the log.
        """
        if not self.has(index, term):
            return None
        fresh = self.first_conflict(entries)
        if fresh < len(entries):
            self.append(entries[fresh:])
        return index + len(entries)

    def first_conflict(self, entries: Sequence[Entry]) -> int:
        """Position of the first entry that is not here yet, len(entries) if all are."""
        if entries and entries[0][1] > self.last:
            return 0
        for position, entry in enumerate(entries):
            if not self.has(entry[1], entry[0]):
                return position
        return len(entries)

    def last_not_after(self, index: int, term: int) -> tuple[int, int]:
        """The last (index, term) at or before `index` whose term is at most `term`.

        Answers (index, 0) where the log does not reach or no longer remembers.
        """
        while (own := self.term(index)) is not None and own > term:
            index -= 1
        return index, own or 0

    def commit_to(self, index: int) -> None:
        """Entries up to `index` are committed; never goes back."""
        if index <= self.committed:
            return
        if index > self.last:
            raise IntegrityError(
                f"Raft log ends at {self.last} but index {index} is said to be committed: entries "
                "were lost."
            )
        self.committed = index

    def stable_to(self, term: int, index: int) -> bool:
        """Entries up to (index, term) are durable; ignored if overwritten since."""
        if self.stable < index <= self.handed and self.has(index, term):
            self.stable = index
            return True
        return False

    def restore(self, snapshot: Snapshot) -> None:
        """Replace everything by a received snapshot, which still has to be made durable."""
        self.pending_snapshot, self.snapshot, self.snapshot_handed = snapshot, snapshot, False
        self.offset, self.offset_term = snapshot.index, snapshot.term
        self.entries, self._bytes = [], [0]
        self.committed = self.stable = self.handed = self.applying = snapshot.index

    def snapshot_stable(self, index: int) -> None:
        """The received snapshot is durable."""
        if self.pending_snapshot is not None and self.pending_snapshot.index == index:
            self.pending_snapshot = None

    def compact(self, snapshot: Snapshot, keep: int) -> None:
        """Drop entries that `snapshot` covers, but for the last `keep` of them."""
        if snapshot.index > self.snapshot.index:
            self.snapshot = snapshot
        index = min(self.snapshot.index, self.applied) - keep
        if index <= self.offset:
            return
        count, term = index - self.offset, self.term(index)
        del self.entries[:count]
        del self._bytes[:count]
        self.offset, self.offset_term = index, term

    def copy(self) -> Log:
        """An independent copy."""
        other = object.__new__(Log)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other.entries, other._bytes = list(self.entries), list(self._bytes)
        return other
