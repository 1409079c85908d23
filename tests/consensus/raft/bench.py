"""A bench for the core: servers without network or chance, driven one Ready at a time."""

import numpy as np

from consensus.raft.config import RaftConfig
from consensus.raft.core import Raft
from consensus.raft.messages import ConfState, Entry, EntryKind, HardState, Kind, Message, Snapshot
from consensus.raft.storage import Durable, MemoryStorage


class Fixed:
    """An election time-out of exactly election_tick."""

    def integers(self, high):
        return 0


def log_of(*terms, data=b""):
    """Entries 1, 2, ... of the given terms."""
    return tuple(Entry(term, index, EntryKind.NORMAL, data) for index, term in enumerate(terms, 1))


def server(
    id=0,
    voters=(0, 1, 2),
    terms=(),
    term=None,
    commit=0,
    vote=-1,
    conf=None,
    snapshot=None,
    **knobs,
):
    """One core with a durable log of the given terms."""
    snapshot = snapshot or Snapshot(conf=conf or ConfState(tuple(voters)))
    entries = tuple(
        Entry(t, snapshot.index + i, EntryKind.NORMAL, b"") for i, t in enumerate(terms, 1)
    )
    hard = HardState(term if term is not None else max(terms, default=snapshot.term), vote, commit)
    return Raft(id, RaftConfig(**knobs), Durable(hard, snapshot, entries), Fixed())


def flush(core):
    """Obey every Ready at once; all messages it let out, in order."""
    sent = []
    while core.has_ready():
        ready = core.ready()
        sent += ready.messages + ready.messages_after_persist
        core.advance(ready.ack)
    return sent


def elect(core, term=None):
    """Make `core` the leader of its next term by everybody's votes; messages it sent as leader."""
    if term is not None:
        core.term = term - 1
    core.campaign()
    flush(core)
    others = [v for v in core.tracker.voters if v != core.id]
    if core.config.pre_vote:
        for voter in others:
            core.step(Message(Kind.PREVOTE_RESP, core.id, voter, core.term + 1))
        flush(core)
    for voter in others:
        core.step(Message(Kind.VOTE_RESP, core.id, voter, core.term))
    assert core.is_leader()
    return flush(core)


def of(messages, kind):
    """Messages of one kind."""
    return [message for message in messages if message.kind is kind]


class Trio:
    """Several cores whose messages arrive when, and only if, the test says so."""

    def __init__(self, size=3, **knobs):
        self.cores = [server(i, range(size), **knobs) for i in range(size)]
        self.disks = [MemoryStorage(Durable(snapshot=core.log.snapshot)) for core in self.cores]
        self.wire = []
        self.cut = set()
        self.applied = [[] for _ in self.cores]

    def obey(self):
        """Every core obeys its Readys; messages go onto the wire."""
        busy = True
        while busy:
            busy = False
            for core in self.cores:
                while core.has_ready():
                    busy, ready = True, core.ready()
                    self.disks[core.id].save(
                        ready.hard_state, ready.entries, ready.snapshot, ready.must_sync
                    )
                    self.wire += ready.messages + ready.messages_after_persist
                    self.applied[core.id] += ready.committed_entries
                    core.advance(ready.ack)

    def settle(self, limit=10_000):
        """Deliver until silence; messages over `cut` links vanish. The number delivered."""
        delivered = 0
        self.obey()
        while self.wire:
            message = self.wire.pop(0)
            if (message.sender, message.to) not in self.cut:
                self.cores[message.to].step(message)
                delivered += 1
                self.obey()
            assert delivered < limit
        return delivered

    def isolate(self, id):
        """Nobody hears `id`, and it hears nobody."""
        for other in range(len(self.cores)):
            self.cut |= {(id, other), (other, id)}

    def restart(self, id):
        """A new core from what the disk holds."""
        old = self.cores[id]
        self.cores[id] = Raft(id, old.config, self.disks[id].load(), Fixed())
        self.applied[id] = []

    def leader(self):
        return next(core for core in self.cores if core.is_leader())


def generator(seed=0):
    """A numpy generator."""
    return np.random.default_rng(seed)
