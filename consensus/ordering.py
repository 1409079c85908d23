"""Ordering: which core puts a chain's entries into one order, and how its driver reads it.

Paper: none; our derivation (cores of one surface, see `Orderer`, behind one small adapter each).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from consensus.bft.config import BftConfig
from consensus.bft.core import Bft, accept_all
from consensus.bft.messages import Body, Bundle, Decision, Items, Message, Proposal, Vote
from consensus.bft.signing import Gate, Signer
from consensus.identity import Key
from consensus.orderer import Orderer
from consensus.raft.cluster import size_of
from consensus.raft.config import RaftConfig
from consensus.raft.core import Raft
from consensus.raft.messages import ConfState, EntryKind, Snapshot
from consensus.raft.storage import Durable
from fedalign.core.seeds import Seeds

NOBODY = -1
HEADER, VOTE = 64, 130  # bytes of a message besides its content, and of a signed vote
Valid = Callable[[int, Sequence[bytes]], bool]
"""(height, entries) -> may they be ordered there? A yes is for ever."""


class Ordering(Protocol):
    """A family of cores. tick_ms: how often a core's `tick` is called."""

    tick_ms: float

    def core(
        self, id: int, servers: int, rng: np.random.Generator, valid: Valid = accept_all,
        out: Collection[int] = (),
    ) -> Orderer:  # fmt: skip
        """The core of one server of a new group 0 .. servers - 1.

        valid: asked where servers may lie about the order. out: who has no voice and only hears.
        """

    def start(self, core: Orderer) -> None:
        """Called once, on server 0, before anything is proposed."""

    def leader(self, core: Orderer) -> int:
        """Whom this core takes for the leader, or NOBODY."""

    def route(self, core: Orderer) -> int:
        """The server to which proposals go, or NOBODY: they wait."""

    def remember(self, core: Orderer, batch: Sequence[bytes]) -> None:
        """`batch` was sent to another server for ordering."""

    def step(self, core: Orderer, sender: int, message: Any) -> None:
        """A message of another server arrived."""

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

    def core(
        self, id: int, servers: int, rng: np.random.Generator, valid: Valid = accept_all,
        out: Collection[int] = (),
    ) -> Raft:  # fmt: skip
        voters = tuple(i for i in range(servers) if i not in out)
        first = Snapshot(0, 0, ConfState(voters, learners=tuple(sorted(out))))
        return Raft(id, self.config, Durable(snapshot=first), rng)

    def start(self, core: Raft) -> None:
        core.campaign()

    def leader(self, core: Raft) -> int:
        return core.leader

    def route(self, core: Raft) -> int:
        return core.leader

    def remember(self, core: Raft, batch: Sequence[bytes]) -> None:
        """Nothing: who proposed asks again."""

    def step(self, core: Raft, sender: int, message: Any) -> None:
        core.step(message)

    def propose(self, core: Raft, batch: Sequence[bytes]) -> bool:
        return core.propose_many(batch).status != "dropped"

    def size(self, message: Any) -> int:
        return size_of(message)

    def committed(self, ready: Any) -> list[bytes]:
        return [e.data for e in ready.committed_entries if e.kind is EntryKind.NORMAL and e.data]


class _Gated(Bft):
    """A core behind the gate that checks signatures."""

    gate: Gate

    def step(self, message: Message) -> None:
        admitted = self.gate.admit(message.body)
        if admitted is not None:
            super().step(message._replace(body=admitted))


@dataclass(frozen=True)
class BftOrdering:
    """Tendermint-style: tolerates f < n/3 servers that lie about the order.

    tick_ms: > 0. config: the core's knobs. seed: of the keys that sign votes. chain_id: u64.
    """

    tick_ms: float = 50.0
    config: BftConfig = BftConfig()
    seed: int = 0
    chain_id: int = 131_277

    def core(
        self, id: int, servers: int, rng: np.random.Generator, valid: Valid = accept_all,
        out: Collection[int] = (),
    ) -> Bft:  # fmt: skip
        keys = [Key(Seeds(self.seed).key("server_key", server=i)) for i in range(servers)]
        signer = Signer(keys[id], self.chain_id)
        voters = [i for i in range(servers) if i not in out]
        core = _Gated(id, voters, self.config, (), signer, valid)
        core.gate = Gate([key.node_id for key in keys], self.chain_id)
        return core

    def start(self, core: Bft) -> None:
        """Proposers take turns; nobody has to be elected."""

    def leader(self, core: Bft) -> int:
        return core.proposer(core.height, core.round)

    def route(self, core: Bft) -> int:
        return core.id

    def remember(self, core: Bft, batch: Sequence[bytes]) -> None:
        """Nothing: proposals are shown to everybody anyway."""

    def step(self, core: Bft, sender: int, message: Any) -> None:
        core.step(message._replace(to=core.id, sender=sender))

    def propose(self, core: Bft, batch: Sequence[bytes]) -> bool:
        return all(core.propose(data).status != "dropped" for data in batch)

    def size(self, message: Any) -> int:
        return HEADER + _bft_bytes(message.body)

    def committed(self, ready: Any) -> list[bytes]:
        return [data for decision in ready.committed_entries for data in decision.batch]


def _bft_bytes(body: Body) -> int:
    """About; a vote is a signature, a digest and five numbers."""
    if isinstance(body, Vote):
        return VOTE
    if isinstance(body, Proposal):
        return VOTE + sum(map(len, body.batch))
    if isinstance(body, Decision):
        return VOTE * len(body.certificate) + sum(map(len, body.batch))
    if isinstance(body, Bundle):
        return sum(map(_bft_bytes, (*body.proposals, *body.votes)))
    return sum(map(len, body.data)) if isinstance(body, Items) else 8
