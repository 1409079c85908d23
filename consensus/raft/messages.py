"""Messages: every value that enters or leaves the Raft core.

All are named tuples: immutable, cheap, comparable. Server ids are integers >= 0, `NONE` is no one.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Figure 3.1.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

NONE = -1
TRANSFER = b"transfer"  # context of a vote request that may ignore leases


class Kind(IntEnum):
    """What a message says. Local events (tick, campaign ...) are method calls, not messages."""

    PROP = 1
    APP = 2
    APP_RESP = 3
    VOTE = 4
    VOTE_RESP = 5
    PREVOTE = 6
    PREVOTE_RESP = 7
    SNAP = 8
    HEARTBEAT = 9
    HEARTBEAT_RESP = 10
    TRANSFER_LEADER = 11
    TIMEOUT_NOW = 12
    READ_INDEX = 13
    READ_INDEX_RESP = 14


class EntryKind(IntEnum):
    """NORMAL: bytes of the application (empty: a new leader's own). CONFIG: a ConfChange."""

    NORMAL = 0
    CONFIG = 1


class Role(IntEnum):
    """What a server is right now."""

    FOLLOWER = 0
    PRECANDIDATE = 1
    CANDIDATE = 2
    LEADER = 3


class Entry(NamedTuple):
    """One slot of the log. (term, index) names it and its whole prefix."""

    term: int
    index: int
    kind: EntryKind
    data: bytes


class ConfState(NamedTuple):
    """A configuration; `outgoing` is non-empty while two majorities must agree.

    voters: the (incoming) voters. outgoing: the old voters of a joint configuration.
    learners: receive, never counted. learners_next: voters of `outgoing` that become learners.
    auto_leave: the leader leaves the joint configuration by itself.
    """

    voters: tuple[int, ...] = ()
    outgoing: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False


class Snapshot(NamedTuple):
    """The applied state up to `index`; `data` is the application's (or a hash of it)."""

    index: int = 0
    term: int = 0
    conf: ConfState = ConfState()
    data: bytes = b""


class HardState(NamedTuple):
    """What must survive a crash besides the log."""

    term: int = 0
    vote: int = NONE
    commit: int = 0


class SoftState(NamedTuple):
    """What only drivers want to know."""

    leader: int
    role: Role


class ReadState(NamedTuple):
    """A read asked with `context` is linearizable once `index` is applied."""

    index: int
    context: bytes


class Message(NamedTuple):
    """One message. What each kind fills in is said where it is sent.

    index, log_term: the entry before `entries`, the last entry of a candidate, an acknowledged
    index, or (rejected) the refused index with the term of `reject_hint`. commit_term: the term of
    entry `commit`, told with votes.
    """

    kind: Kind
    to: int
    sender: int = NONE
    term: int = 0
    log_term: int = 0
    index: int = 0
    commit: int = 0
    reject: bool = False
    reject_hint: int = 0
    entries: tuple[Entry, ...] | list[Entry] = ()
    context: bytes = b""
    snapshot: Snapshot | None = None
    commit_term: int = 0


class Ack(NamedTuple):
    """A driver's report: this has been done. Acks of one kind arrive in the order of their Readys.

    term: the core's term when the Ready was made; a durability report of an older term is stale.
    stable: (term, index) of the last entry now durable, or None.
    snapshot: index of the snapshot now durable, 0 if none.
    responses: messages of the core to itself that had to wait for the disk.
    applied: index up to which the application is, 0 if unchanged.
    """

    term: int = 0
    stable: tuple[int, int] | None = None
    snapshot: int = 0
    responses: tuple[Message, ...] = ()
    applied: int = 0


class Ready(NamedTuple):
    """What the driver must do now, in this order.

    1. Write hard_state, entries, snapshot as one batch, hard state first (a torn write may then
       keep entries only together with the commit index they were sent with); force it to disk iff
       must_sync. `messages` may be sent at once.
    2. Then send messages_after_persist and report `persisted`.
    3. Then apply the snapshot and committed_entries and report `applied`.
    Steps of later Readys may overlap, but 2 and 3 each keep the order of Readys. A driver that
    does all at once reports `ack`.
    """

    soft_state: SoftState | None
    hard_state: HardState | None
    entries: list[Entry]
    snapshot: Snapshot | None
    committed_entries: list[Entry]
    messages: list[Message]
    messages_after_persist: list[Message]
    must_sync: bool
    read_states: list[ReadState]
    persisted: Ack
    applied: Ack

    @property
    def ack(self) -> Ack:
        """Both reports in one."""
        return self.persisted._replace(applied=self.applied.applied)
