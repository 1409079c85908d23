"""State: what one Raft server knows, and how it changes roles.

The rules that act on it live beside: election, leading, following, membership, reads.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Figure 3.1.
"""

from __future__ import annotations

import numpy as np

from consensus.raft.config import RaftConfig
from consensus.raft.log import Log
from consensus.raft.messages import NONE, Kind, Message, ReadState, Role
from consensus.raft.storage import Durable
from consensus.raft.tracker import Tracker

WAITS_FOR_DISK = frozenset({Kind.APP_RESP, Kind.VOTE_RESP, Kind.PREVOTE_RESP})
TERMLESS = frozenset({Kind.PROP, Kind.READ_INDEX})  # requests passed on for a client


class State:
    """One server. `id` is its id, `rng` draws its election time-outs."""

    def __init__(self, id: int, config: RaftConfig, durable: Durable, rng: np.random.Generator):
        self.id, self.config, self.rng = id, config, rng
        self.term, self.vote, commit = durable.hard_state
        self.log = Log(durable.snapshot, durable.entries, commit)
        self.tracker = Tracker(
            durable.snapshot.conf,
            self.log.last + 1,
            config.max_inflight_messages,
            config.max_inflight_bytes,
        )
        self.messages: list[Message] = []
        self.after_persist: list[Message] = []
        self.read_states: list[ReadState] = []
        self.waiting_reads: list[Message] = []  # until an entry of this term is committed
        self.pending_reads: dict[bytes, tuple[int, Message, dict[int, bool]]] = {}
        self.conf_index = self.log.applied  # the configuration in force is that of this index
        self.become_follower(self.term, NONE)

    # ------------------------------------------------------------------ sending

    def send(self, message: Message) -> None:
        """Queue a message; promises wait until the disk holds what they promise."""
        term = message.term or (0 if message.kind in TERMLESS else self.term)
        message = message._replace(sender=self.id, term=term)
        if message.kind in WAITS_FOR_DISK:
            self.after_persist.append(message)
        else:
            self.messages.append(message)

    # ------------------------------------------------------------------ roles

    def reset(self, term: int) -> None:
        """Begin `term` (or begin again) with nothing known about the others."""
        if term != self.term:
            self.term, self.vote = term, NONE
        self.leader, self.role = NONE, Role.FOLLOWER
        self.election_elapsed = self.heartbeat_elapsed = 0
        self.timeout = self.config.election_tick + int(self.rng.integers(self.config.election_tick))
        self.transferee = NONE
        self.pending_conf_index = 0
        self.tracker.reset(self.log.last + 1)
        self.pending_reads, self.waiting_reads = {}, []

    def become_follower(self, term: int, leader: int) -> None:
        """Follow `leader`, or nobody yet."""
        self.reset(term)
        self.leader = leader

    def become_precandidate(self) -> None:
        """Ask for votes without raising the term: nothing durable changes."""
        self.tracker.votes = {}
        self.role, self.leader = Role.PRECANDIDATE, NONE

    def become_candidate(self) -> None:
        """Raise the term and vote for oneself."""
        self.reset(self.term + 1)
        self.role, self.vote = Role.CANDIDATE, self.id

    # ------------------------------------------------------------------ questions

    def is_leader(self) -> bool:
        """Leader of the current term?"""
        return self.role is Role.LEADER

    def promotable(self) -> bool:
        """May this server campaign? Voters only, and not while a snapshot is being installed."""
        return self.tracker.is_voter(self.id) and self.log.pending_snapshot is None

    def committed_in_term(self) -> bool:
        """Has an entry of this term been committed?"""
        return self.log.term(self.log.committed) == self.term

    def in_lease(self) -> bool:
        """Has a leader been heard from within the last election time-out?"""
        return (
            self.config.check_quorum
            and self.leader != NONE
            and self.election_elapsed < self.config.election_tick
        )
