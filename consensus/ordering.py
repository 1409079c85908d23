"""Ordering: which core puts a chain's entries into one order, and how its driver reads it.

Paper: none; our derivation (cores of one surface, see `Orderer`, behind one small adapter each).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from consensus.orderer import Orderer
from consensus.raft.cluster import size_of
from consensus.raft.config import RaftConfig
from consensus.raft.core import Raft
from consensus.raft.messages import ConfState, EntryKind, Snapshot
from consensus.raft.storage import Durable

NOBODY = -1


class Ordering(Protocol):
    """A family of cores. tick_ms: how often a core's `tick` is called."""

    tick_ms: float

    def core(self, id: int, servers: int, rng: np.random.Generator) -> Orderer:
        """The core of one server of a new group 0 .. servers - 1."""

    def start(self, core: Orderer) -> None:
        """Called once, on server 0, before anything is proposed."""

    def leader(self, core: Orderer) -> int:
        """Whom this core takes for the leader, or NOBODY."""

    def propose(self, core: Orderer, batch: Sequence[bytes]) -> bool:
        """Have all of `batch` ordered; False if nobody would take it now."""

    def size(self, message: Any) -> int:
        """Bytes on the wire."""

    def committed(self, ready: Any) -> list[bytes]:
        """What a Ready hands over for application, in order."""


@dataclass(frozen=True)
class RaftOrdering:
    """Raft: tolerates f < n/2 servers that stop, and none that lie about the order.

    tick_ms: > 0. config: the core's knobs.
    """

    tick_ms: float = 50.0
    config: RaftConfig = RaftConfig()

    def core(self, id: int, servers: int, rng: np.random.Generator) -> Raft:
        first = Snapshot(0, 0, ConfState(tuple(range(servers))))
        return Raft(id, self.config, Durable(snapshot=first), rng)

    def start(self, core: Raft) -> None:
        core.campaign()

    def leader(self, core: Raft) -> int:
        return core.leader

    def propose(self, core: Raft, batch: Sequence[bytes]) -> bool:
        return core.propose_many(batch).status != "dropped"

    def size(self, message: Any) -> int:
        return size_of(message)

    def committed(self, ready: Any) -> list[bytes]:
        return [e.data for e in ready.committed_entries if e.kind is EntryKind.NORMAL and e.data]
