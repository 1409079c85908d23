"""Local: one server of an explored cluster, its disk, and what history must remember of it.

Values: every step answers a new one. Ghosts (terms led, votes cast, what it ever knew to be
committed) survive crashes and are seen by nobody but the invariants.

Paper: Lamport, "Specifying Systems", 2002, Chapter 14; Ongaro, Stanford 2014, Figure 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator

from consensus.raft.confchange import ConfChange
from consensus.raft.config import RaftConfig
from consensus.raft.core import Raft
from consensus.raft.messages import ConfState, Entry, Kind, Message, Ready, Snapshot
from consensus.raft.storage import Durable, MemoryStorage
from fedalign.core.errors import IntegrityError

Sent = list[Message]


class _SameTimeOut:
    """Time is not explored, so all time-outs may be equal."""

    def integers(self, high: int) -> int:
        return 0


class Local:
    """A server. writing: Readys on their way to the disk. committed, commit_terms: the longest
    prefix it ever knew to be committed, and its term when it learned each entry's."""

    __slots__ = ("commit_terms", "committed", "core", "disk", "led", "proposed", "votes", "writing")

    def __init__(self, core: Raft, disk: MemoryStorage):
        self.core, self.disk = core, disk
        self.writing: tuple[Ready, ...] = ()
        self.led: frozenset[int] = frozenset()
        self.votes: tuple[tuple[int, int], ...] = ()
        self.committed: tuple[Entry, ...] = ()
        self.commit_terms: tuple[int, ...] = ()
        self.proposed = False

    def copy(self) -> Local:
        """An independent copy."""
        other = object.__new__(Local)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other.core, other.disk = _copy(self.core), MemoryStorage(self.disk.load())
        return other

    def key(self) -> tuple:
        """All that the future can depend on."""
        core, log = self.core, self.core.log
        progress = tuple(
            (p.match, p.next, p.pace, p.paused, p.sent_commit, tuple(p._inflight))
            for p in core.tracker.progress.values()
        )
        writing = tuple(
            (r.hard_state, tuple(r.entries), tuple(r.messages_after_persist), r.persisted,
             tuple(r.committed_entries))
            for r in self.writing
        )  # fmt: skip
        return (
            core.id, core.term, core.vote, core.role, core.leader, tuple(log.entries),
            log.committed, log.applied, log.applying, log.stable, log.handed, progress,
            tuple(sorted(core.tracker.votes.items())), core.tracker.conf, core.pending_conf_index,
            core._told_hard, self.disk.hard_state, tuple(self.disk.entries), writing, self.led,
            self.votes, self.committed, self.commit_terms, self.proposed,
        )  # fmt: skip


def begin(id: int, conf: ConfState, pre_vote: bool) -> Local:
    """A first start."""
    config = RaftConfig(
        election_tick=2, check_quorum=False, pre_vote=pre_vote, max_inflight_messages=2
    )
    durable = Durable(snapshot=Snapshot(conf=conf))
    return Local(Raft(id, config, durable, _SameTimeOut()), MemoryStorage(durable))


def moves(local: Local, bounds) -> Iterator[tuple[str, Local, Sent, int]]:
    """What a server may do without a message: name, after, sent, crashes used up."""
    core, id = local.core, local.core.id
    room = core.log.last < bounds.entries
    if len(local.writing) >= bounds.writes:
        pass  # it waits for its disk
    elif core.is_leader():
        yield f"{id} beats", *_stepped(local, Raft.tick), 0
        if room:
            yield f"{id} proposes", *_stepped(local, lambda c: c.propose(b"x")), 0
        if room and bounds.change is not None and not local.proposed:
            yield f"{id} proposes a change", *_changed(local, bounds.change), 0
    elif core.promotable() and core.term < bounds.terms and room:
        yield f"{id} times out", *_stepped(local, _time_out), 0
    if local.writing:
        yield f"{id} has written", *_written(local), 0
    if bounds.crashes:
        for kept in range(len(local.writing) + 1):
            yield f"{id} restarts, {kept} writes kept", *_restarted(local, kept), 1


def deliver(local: Local, message: Message) -> tuple[Local, Sent]:
    """A message arrives."""
    return _stepped(local, lambda core: core.step(message))


def compare(one: Local, two: Local) -> None:
    """Invariants between two servers, seen from `one`; IntegrityError names the broken one."""
    both = one.led & two.led
    if both:
        raise IntegrityError(
            f"ElectionSafetyInv: {one.core.id} and {two.core.id} lead {sorted(both)}."
        )
    shorter = min(len(one.committed), len(two.committed))
    if one.committed[:shorter] != two.committed[:shorter]:
        raise IntegrityError(f"CommittedLogInv: {one.committed} against {two.committed}.")
    mine, theirs = one.core.log.entries, two.core.log.entries
    for at in range(min(len(mine), len(theirs)), 0, -1):
        if mine[at - 1].term == theirs[at - 1].term:
            if mine[:at] != theirs[:at]:
                raise IntegrityError(f"LogMatchingInv: {mine} against {theirs}.")
            break
    if one.core.is_leader():
        for entry, term in zip(two.committed, two.commit_terms, strict=True):
            if term < one.core.term and mine[entry.index - 1 : entry.index] != [entry]:
                raise IntegrityError(
                    f"LeaderCompletenessInv: leader {one.core.id} of term {one.core.term} lacks "
                    f"{entry}, committed in term {term}."
                )


# ---------------------------------------------------------------------- steps


def _stepped(local: Local, act) -> tuple[Local, Sent]:
    after = local.copy()
    act(after.core)
    return after, _obey(after, local)


def _time_out(core: Raft) -> None:
    for _ in range(core.timeout):
        core.tick()


def _changed(local: Local, change: ConfChange) -> tuple[Local, Sent]:
    after, sent = _stepped(local, lambda core: core.propose_conf_change(change))
    after.proposed = True
    return after, sent


def _written(local: Local) -> tuple[Local, Sent]:
    after = local.copy()
    sent = _finish(after)
    return after, sent + _obey(after, local)


def _restarted(local: Local, kept: int) -> tuple[Local, Sent]:
    """Power off and on; the first `kept` writes under way had reached the disk unreported."""
    after = local.copy()
    for ready in after.writing[:kept]:
        after.disk.save(ready.hard_state, ready.entries, ready.snapshot)
    after.writing = ()
    after.core = Raft(local.core.id, local.core.config, after.disk.load(), _SameTimeOut())
    return after, _obey(after, local, restarted=True)


def _obey(local: Local, before: Local, restarted: bool = False) -> Sent:
    """Take all Readys; those that need not be forced to disk are done as soon as they are first."""
    sent: Sent = []
    while True:
        if local.core.has_ready():
            ready = local.core.ready()
            sent += ready.messages
            local.writing += (ready,)
        elif local.writing and not local.writing[0].must_sync:
            sent += _finish(local)
        else:
            break
    _remember(local, before, restarted)
    return sent


def _finish(local: Local) -> Sent:
    """The oldest write is durable: send what waited for it, apply, report."""
    ready, local.writing = local.writing[0], local.writing[1:]
    local.disk.save(ready.hard_state, ready.entries, ready.snapshot)
    for message in (*ready.messages_after_persist, *ready.persisted.responses):
        if message.kind is Kind.VOTE_RESP and not message.reject:
            _voted(local, message.term, message.to)
    local.core.advance(ready.ack)
    return list(ready.messages_after_persist)


def _voted(local: Local, term: int, candidate: int) -> None:
    cast = dict(local.votes)
    if cast.setdefault(term, candidate) != candidate:
        raise IntegrityError(
            f"OneVoteInv: server {local.core.id} voted for {cast[term]} and {candidate} in term "
            f"{term}."
        )
    local.votes = tuple(sorted(cast.items()))


def _remember(local: Local, before: Local, restarted: bool) -> None:
    """Bring the ghosts up to date, look at what one server alone can break, forget the time."""
    core, log, old = local.core, local.core.log, before.core
    if not restarted and (core.term < old.term or log.committed < old.log.committed):
        raise IntegrityError(f"MonotoneInv: server {core.id} went back in term or commit.")
    if core.is_leader():
        local.led |= {core.term}
        same = old.is_leader() and old.term == core.term and not restarted
        if same and old.log.entries != log.entries[: old.log.last]:
            raise IntegrityError(f"LeaderAppendOnlyInv: leader {core.id} changed its log.")
    known = tuple(log.entries[: log.committed])
    shorter = min(len(known), len(local.committed))
    if known[:shorter] != local.committed[:shorter]:
        raise IntegrityError(f"CommittedLogInv: {local.committed} became {known}.")
    new = len(known) - len(local.committed)
    if new > 0:
        local.committed, local.commit_terms = known, local.commit_terms + (core.term,) * new
    core.election_elapsed = core.heartbeat_elapsed = 0
    for progress in core.tracker.progress.values():
        progress.recent_active = True  # asked by quorum checks and snapshots only: not explored


def _copy(core: Raft) -> Raft:
    other = object.__new__(type(core))
    other.__dict__.update(core.__dict__)
    other.log = core.log.copy()
    tracker = other.tracker = object.__new__(type(core.tracker))
    tracker.__dict__.update(core.tracker.__dict__)
    tracker.progress = {id: p.copy() for id, p in core.tracker.progress.items()}
    tracker.votes = dict(core.tracker.votes)
    for name in ("messages", "after_persist", "read_states", "waiting_reads", "_conf_entries"):
        setattr(other, name, list(getattr(core, name)))
    other.pending_reads = dict(core.pending_reads)
    return other
