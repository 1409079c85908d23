"""Progress: what a leader believes about one follower's log, and how fast it may send.

PROBE sends one message at a time, REPLICATE pipelines within the in-flight limits, SNAPSHOT waits.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Section 10.2.1.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum


class Pace(IntEnum):
    """How a follower is being fed."""

    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


class Progress:
    """One follower as its leader sees it.

    match: the largest index known to be durable there; never falls within a term.
    next: the next index to send. recent_active: heard from since the last quorum check.
    paused: nothing may be sent until an answer (or a heartbeat's) arrives.
    pending_snapshot, snapshot_age: index of the snapshot on its way, ticks since (SNAPSHOT only).
    sent_commit: the largest commit index told.
    """

    __slots__ = (
        "_bytes",
        "_inflight",
        "match",
        "max_bytes",
        "max_inflight",
        "next",
        "pace",
        "paused",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "snapshot_age",
    )

    def __init__(self, next_index: int, max_inflight: int, max_bytes: int):
        self.match, self.next = 0, next_index
        self.pace, self.paused, self.recent_active = Pace.PROBE, False, False
        self.pending_snapshot = self.sent_commit = self.snapshot_age = 0
        self.max_inflight, self.max_bytes = max_inflight, max_bytes
        self._inflight: deque[tuple[int, int]] = deque()  # (last index, bytes) per message
        self._bytes = 0

    def _become(self, pace: Pace) -> None:
        self.pace, self.paused, self.pending_snapshot, self.snapshot_age = pace, False, 0, 0
        self._inflight.clear()
        self._bytes = 0

    def become_probe(self) -> None:
        """Ask again from the snapshot just sent, or from what is known to be there."""
        snapshot = self.pending_snapshot if self.pace is Pace.SNAPSHOT else 0
        self._become(Pace.PROBE)
        self.next = max(self.match, snapshot) + 1
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def become_replicate(self) -> None:
        """The logs agree up to match: pipeline from there."""
        self._become(Pace.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """A snapshot up to `index` is on its way."""
        self._become(Pace.SNAPSHOT)
        self.pending_snapshot, self.next, self.sent_commit = index, index + 1, index

    def is_paused(self) -> bool:
        """May nothing be sent now?"""
        return self.paused or self.pace is Pace.SNAPSHOT

    def full(self) -> bool:
        """Is the in-flight window used up, by messages or by bytes?"""
        return len(self._inflight) >= self.max_inflight or (
            self.max_bytes > 0 and self._bytes >= self.max_bytes
        )

    def sent(self, count: int, size: int) -> None:
        """An append with `count` entries of `size` bytes left."""
        if self.pace is Pace.REPLICATE:
            if count:
                self.next += count
                self._inflight.append((self.next - 1, size))
                self._bytes += size
            self.paused = self.full()
        elif self.pace is Pace.PROBE:
            self.paused = True

    def acknowledged(self, index: int) -> None:
        """Messages up to `index` arrived."""
        while self._inflight and self._inflight[0][0] <= index:
            self._bytes -= self._inflight.popleft()[1]
        self.paused = self.full()

    def update(self, index: int) -> bool:
        """`index` is durable there; False if that is no news (late or repeated answers)."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.paused = False
        return True

    def decrease(self, rejected: int, hint: int) -> bool:
        """The append after `rejected` was refused: probe from `hint`; False for stale refusals."""
        if self.pace is Pace.REPLICATE:
            if rejected <= self.match:
                return False  # it has been accepted since
            self.next = self.match + 1
            self.sent_commit = min(self.sent_commit, self.match)
            return True
        if self.next - 1 != rejected:
            return False  # an answer to an earlier probe
        self.next = max(min(rejected, hint + 1), self.match + 1)
        self.sent_commit = min(self.sent_commit, self.next - 1)
        self.paused = False
        return True

    def copy(self) -> Progress:
        """An independent copy."""
        other = Progress(self.next, self.max_inflight, self.max_bytes)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other._inflight = deque(self._inflight)
        return other
