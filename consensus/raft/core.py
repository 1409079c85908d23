"""Raft: one server of a replicated log, as a machine without I/O, clock or chance of its own.

Pre-vote, check-quorum, joint consensus with learners, leadership transfer, snapshots, read index,
asynchronous storage. Drivers obey the order contract of `messages.Ready`.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014 (Raft).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from consensus.orderer import Proposed
from consensus.raft import election, following, leading, membership, reads, transfer
from consensus.raft.confchange import ConfChange
from consensus.raft.config import RaftConfig
from consensus.raft.messages import (
    NONE,
    Ack,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    Kind,
    Message,
    ReadState,
    Ready,
    Role,
    Snapshot,
    SoftState,
)  # fmt: skip
from consensus.raft.state import State
from consensus.raft.storage import Durable
from fedalign.core.errors import ConfigError

_FROM_LEADER = frozenset({Kind.APP, Kind.HEARTBEAT, Kind.SNAP})

_ASKED_AS = {Kind.VOTE_RESP: Role.CANDIDATE, Kind.PREVOTE_RESP: Role.PRECANDIDATE}


class Raft(State):
    """An `Orderer`.

    id: this server (>= 0). config: its knobs. durable: what its storage holds; a first start has
    a snapshot at index 0 with the initial configuration. rng: draws election time-outs.
    """

    def __init__(self, id: int, config: RaftConfig, durable: Durable, rng: np.random.Generator):
        if id < 0:
            raise ConfigError(f"Server ids are integers >= 0, got {id}.")
        super().__init__(id, config, durable, rng)
        self._conf_entries: list[Entry] = []  # handed out, not yet reported applied
        self._unacked = 0
        self._told_soft = SoftState(self.leader, self.role)
        self._told_hard = durable.hard_state

    # ------------------------------------------------------------------ inputs

    def propose(self, data: bytes) -> Proposed:
        """Ask for `data` to be ordered."""
        return self.propose_many((data,))

    def propose_many(self, batch: Sequence[bytes]) -> Proposed:
        """Ask for several entries at once, in this order, all or none."""
        return self._propose([(EntryKind.NORMAL, data) for data in batch])

    def propose_conf_change(self, change: ConfChange) -> Proposed:
        """Ask for a new configuration; one at a time."""
        return self._propose([(EntryKind.CONFIG, change.encode())])

    def step(self, message: Message) -> None:
        """A message of another server arrived."""
        if message.term > self.term:
            if not self._newer_term(message):
                return
        elif 0 < message.term < self.term:
            self._older_term(message)
            return
        if message.kind in (Kind.VOTE, Kind.PREVOTE):
            election.answer(self, message)
        elif self.role is Role.LEADER:
            self._step_leader(message)
        else:
            self._step_follower(message)

    def tick(self) -> None:
        """One unit of time passed."""
        self.election_elapsed += 1
        if self.role is Role.LEADER:
            self._tick_leader()
        elif self.promotable() and self.election_elapsed >= self.timeout:
            self.election_elapsed = 0
            election.campaign(self)

    def campaign(self) -> None:
        """Stand for election now."""
        election.campaign(self)

    def transfer_leadership(self, target: int) -> None:
        """Make `target` the leader; asked of a follower, the wish travels to the leader."""
        if self.role is Role.LEADER:
            transfer.request(self, target)
        elif self.leader != NONE:
            self.send(Message(Kind.TRANSFER_LEADER, self.leader, index=target))

    def forget_leader(self) -> None:
        """Stop believing in the leader (its process is known to be dead) so that votes are free."""
        if self.role is Role.FOLLOWER and self.config.read_only != "lease":
            self.leader = NONE

    def read_index(self, context: bytes) -> bool:
        """Ask for the index from which a read is linearizable; False if no leader is known."""
        message = Message(Kind.READ_INDEX, self.leader, context=context)
        if self.role is Role.LEADER:
            reads.request(self, message)
        elif self.leader != NONE:
            self.send(message)
        return self.leader != NONE

    def report_unreachable(self, follower: int) -> None:
        """The driver could not deliver to `follower`."""
        if self.role is Role.LEADER:
            leading.on_unreachable(self, follower)

    def report_snapshot(self, follower: int, failed: bool) -> None:
        """The driver delivered, or failed to deliver, a snapshot."""
        if self.role is Role.LEADER:
            leading.on_snapshot_status(self, follower, failed)

    def make_snapshot(self, data: bytes) -> Snapshot:
        """A snapshot of the applied state, `data`, for the driver to make durable."""
        term = self.log.term(self.log.applied)
        if term is None:
            raise ConfigError("A received snapshot is being installed: apply it first.")
        return Snapshot(self.log.applied, term, self.tracker.conf, data)

    def compact(self, snapshot: Snapshot) -> None:
        """`snapshot` is durable: entries it covers may go, but for `keep_tail` of them."""
        self.log.compact(snapshot, self.config.keep_tail)

    # ------------------------------------------------------------------ outputs

    @property
    def conf(self) -> ConfState:
        """The configuration in force, that of the applied index."""
        return self.tracker.conf

    def has_ready(self) -> bool:
        """Is there anything to persist, send or apply?"""
        log = self.log
        return bool(
            self.messages
            or self.after_persist
            or log.handed < log.last
            or self.read_states
            or self._applicable() > log.applying
            or (log.pending_snapshot is not None and not log.snapshot_handed)
            or self._hard_state() != self._told_hard
            or (self.leader, self.role) != self._told_soft
        )

    def ready(self) -> Ready:
        """What to persist, then to send, then to apply."""
        if self._unacked and not self.config.async_storage:
            raise ConfigError(
                "ready() was called before the last Ready was acknowledged: advance first, or set "
                "async_storage=true."
            )
        log, soft, hard = self.log, SoftState(self.leader, self.role), self._hard_state()
        entries = log.entries[log.handed - log.offset :]
        snapshot = None if log.snapshot_handed else log.pending_snapshot
        must_sync = bool(entries or snapshot or hard[:2] != self._told_hard[:2])
        log.handed = log.last
        log.snapshot_handed = log.snapshot_handed or snapshot is not None
        committed = self._hand_out()
        own = tuple(m for m in self.after_persist if m.to == self.id)
        others = [m for m in self.after_persist if m.to != self.id] if own else self.after_persist
        ready = Ready(
            soft if soft != self._told_soft else None,
            hard if hard != self._told_hard else None,
            entries,
            snapshot,
            committed,
            self.messages,
            others,
            must_sync,
            self.read_states,
            Ack(
                self.term,
                (log.last_term, log.last) if log.stable < log.last else None,
                snapshot.index if snapshot else 0,
                own,
            ),
            Ack(
                self.term,
                applied=committed[-1].index if committed else snapshot.index if snapshot else 0,
            ),
        )
        self.messages, self.after_persist, self.read_states = [], [], []
        self._told_soft, self._told_hard = soft, hard
        self._unacked += 1
        return ready

    def advance(self, ack: Ack) -> None:
        """Some of what `ready` asked for has been done.

        A durability report made in an older term is ignored: the entries it names may have been
        overwritten and written again, and be overwritten on the disk at this moment. The Ready
        that made the new term durable carries its own report.
        """
        self._unacked = 0
        if ack.snapshot:
            self.log.snapshot_stable(ack.snapshot)
        fresh = ack.stable is not None and ack.term == self.term
        if fresh and self.log.stable_to(*ack.stable) and self.role is Role.LEADER:
            leading.on_own_disk(self)
        for response in ack.responses:
            self.step(response)
        if ack.applied > self.log.applied:
            self._applied(ack.applied)

    # ------------------------------------------------------------------ private

    def _propose(self, items: Sequence[tuple[EntryKind, bytes]]) -> Proposed:
        if self.role is Role.LEADER:
            reason = leading.refusal(self, items)
            if reason:
                return Proposed("dropped", reason, self.id)
            if items[0][0] is EntryKind.CONFIG:
                membership.append(self, items[0][1])
            else:
                leading.append(self, items)
            leading.broadcast(self)
            return Proposed("accepted", "", self.id, self.term, self.log.last)
        if self.leader == NONE:
            return Proposed("dropped", "no leader is known")
        if not self.config.proposal_forwarding:
            return Proposed("dropped", "this server is not the leader", self.leader)
        entries = [Entry(0, 0, kind, data) for kind, data in items]
        self.send(Message(Kind.PROP, self.leader, entries=entries))
        return Proposed("forwarded", "", self.leader)

    def _newer_term(self, message: Message) -> bool:
        """Adopt a newer term where that is due; False if the message is to be ignored."""
        if message.kind in (Kind.VOTE, Kind.PREVOTE) and election.ignored_in_lease(self, message):
            return False
        if message.kind is Kind.PREVOTE or (
            message.kind is Kind.PREVOTE_RESP and not message.reject
        ):
            return True  # a term that is only talked about
        leader = message.sender if message.kind in _FROM_LEADER else NONE
        elapsed = self.election_elapsed
        self.become_follower(message.term, leader)
        if message.kind is Kind.VOTE:  # its own time-out starts again only if it grants the vote,
            self.election_elapsed = elapsed  # or a hasty server with an old log would block it
        return True

    def _older_term(self, message: Message) -> None:
        """Tell a leader of the past, or a pre-candidate, how late it is."""
        if message.kind in (Kind.APP, Kind.HEARTBEAT, Kind.SNAP):
            if self.config.check_quorum or self.config.pre_vote:
                self.send(Message(Kind.APP_RESP, message.sender))
        elif message.kind is Kind.PREVOTE:
            self.send(Message(Kind.PREVOTE_RESP, message.sender, term=self.term, reject=True))

    def _step_leader(self, message: Message) -> None:
        kind = message.kind
        if kind is Kind.APP_RESP:
            leading.on_append_answer(self, message)
        elif kind is Kind.HEARTBEAT_RESP:
            leading.on_heartbeat_answer(self, message)
        elif kind is Kind.PROP:
            self._propose([(entry.kind, entry.data) for entry in message.entries])
        elif kind is Kind.READ_INDEX:
            reads.request(self, message)
        elif kind is Kind.TRANSFER_LEADER:
            transfer.request(self, message.index)

    def _step_follower(self, message: Message) -> None:
        kind = message.kind
        if kind in _FROM_LEADER:
            if self.role is not Role.FOLLOWER:
                self.become_follower(message.term, message.sender)
            self.election_elapsed, self.leader = 0, message.sender
            if kind is Kind.APP:
                following.on_append(self, message)
            elif kind is Kind.HEARTBEAT:
                following.on_heartbeat(self, message)
            else:
                following.on_snapshot(self, message)
        elif _ASKED_AS.get(kind) is self.role:
            election.count(self, message)
        elif kind is Kind.TIMEOUT_NOW and self.role is Role.FOLLOWER:
            election.campaign(self, transfer=True)
        elif kind is Kind.READ_INDEX_RESP:
            self.read_states.append(ReadState(message.index, message.context))
        # Requests travel one hop only: two servers that each take the other for the leader would
        # pass them on for ever. Clients ask again.

    def _tick_leader(self) -> None:
        if self.election_elapsed >= self.config.election_tick:
            self.election_elapsed = 0
            if self.config.check_quorum:
                leading.check_quorum(self)
            if self.role is not Role.LEADER:
                return
            if self.transferee != NONE:
                transfer.abort(self)
                membership.maybe_leave(self)
        leading.retry_snapshots(self)
        self.heartbeat_elapsed += 1
        if self.heartbeat_elapsed >= self.config.heartbeat_tick:
            self.heartbeat_elapsed = 0
            context = next(reversed(self.pending_reads), b"")
            leading.send_heartbeats(self, context)

    def _hard_state(self) -> HardState:
        return HardState(self.term, self.vote, self.log.committed)

    def _applicable(self) -> int:
        """Last index that may be applied: everything committed, unless a snapshot comes first."""
        return self.log.committed if self.log.pending_snapshot is None else 0

    def _hand_out(self) -> list[Entry]:
        log, last = self.log, self._applicable()
        if last <= log.applying:
            return []
        entries = log.slice(log.applying + 1, last, self.config.max_committed_bytes_per_ready)
        log.applying = entries[-1].index
        self._conf_entries += [entry for entry in entries if entry.kind is EntryKind.CONFIG]
        return entries

    def _applied(self, index: int) -> None:
        """Move the applied index, stopping at every configuration change to switch there."""
        while self._conf_entries and self._conf_entries[0].index <= index:
            entry = self._conf_entries.pop(0)
            if entry.index > self.conf_index:  # else a snapshot brought it already
                self.log.applied = self.conf_index = entry.index
                membership.on_applied(self, entry)
        self.log.applied = max(self.log.applied, index)
        membership.maybe_leave(self)
