"""What servers that agree promise a round: proposals go in, one final verdict comes out.

A round hands over one update per server and a rule; the protocol says which update all servers
sealed, who led, what everybody earned, and what agreeing cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fedalign.core.contracts import Aggregate, Context, Defense, Updates
from fedalign.core.market import Payments


@dataclass(frozen=True)
class Sealed:
    """What a block records of the round before it. model: 32 bytes, the digest of the model that
    this round starts from. payments: of the clients. clock_s: simulated seconds."""

    model: bytes = bytes(32)
    payments: Payments = Payments()
    clock_s: float = 0.0


@dataclass(frozen=True)
class Cost:
    """Of one phase, all servers together. messages: sent from one server to another. bytes: of
    control; model_bytes: of updates. cpu_s: process time. latency_s: simulated seconds.
    signatures: made, or recovered from. hashes: of messages, entries, chunks and blocks."""

    messages: int = 0
    bytes: int = 0
    model_bytes: int = 0
    cpu_s: float = 0.0
    latency_s: float = 0.0
    signatures: int = 0
    hashes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, name) + getattr(other, name) for name in vars(self)))


@dataclass(frozen=True)
class SealedBlock:
    """A final block as the round sees it. height: from 1. round: of the chain, counts aborted
    ones. root: of the aggregate update's bytes. hash, parent: 32 bytes each. signers: servers
    whose signatures seal it."""

    height: int
    round: int
    root: bytes
    hash: bytes
    parent: bytes
    signers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What the servers decided; servers are positions 0 .. n-1 in the chain's order.

    aggregate: of the proposals that took part; `accepted`, `coefficients` and `scores` in the
    order in which the proposals arrived, servers outside False and 0. status: "final", or "plain" where nobody votes
    and no chain is kept. members: whose updates were aggregated. votes: voter -> candidate.
    scores: voter -> micro-nats. rewards: server -> base units. strikes: (server, kind).
    aborted: rounds without a block before this one. costs: phase -> Cost. measured: their latency
    was measured by a clock of its own and is no part of the simulated time. paused: a sentence for
    every wait for a quorum.
    """

    aggregate: Aggregate
    status: str
    leader: int | None = None
    block: SealedBlock | None = None
    members: tuple[int, ...] = ()
    votes: Mapping[int, int] = field(default_factory=dict)
    scores: Mapping[int, int] = field(default_factory=dict)
    rewards: Mapping[int, int] = field(default_factory=dict)
    strikes: tuple[tuple[int, str], ...] = ()
    aborted: int = 0
    costs: Mapping[str, Cost] = field(default_factory=dict)
    measured: bool = False
    paused: tuple[str, ...] = ()

    @property
    def cost(self) -> Cost:
        """Of all phases."""
        return sum(self.costs.values(), Cost())


@dataclass(frozen=True)
class Question:
    """What a round asks its servers: the arguments of `Consensus.agree`."""

    proposals: Updates
    rule: Defense
    context: Context
    sealed: Sealed = Sealed()


@dataclass(frozen=True)
class Audited:
    """A block that follows from the entries before it and carries a quorum's signatures.
    aggregate: what its servers decided, computed once more; None where that was not asked or a
    model is gone."""

    block: SealedBlock
    aggregate: Aggregate | None


class Consensus(Protocol):
    """Edge servers agree on the next aggregate. What must outlive a process it keeps in the
    folder it was opened with."""

    def open(self, folder: Path | None, height: int | None = None) -> SealedBlock | None:
        """Continue behind block `height` of those in `folder` (None: the last), or begin; a folder
        None keeps nothing. Blocks above it are final: they must come out the same again."""

    def agree(
        self, proposals: Updates, rule: Defense, context: Context, sealed: Sealed = Sealed()
    ) -> Verdict:
        """One final round. proposals: a row per server, `clients` their positions; who has no
        row is late and is there without a model. Raises QuorumLostError."""

    def close(self, sealed: Sealed = Sealed()) -> SealedBlock | None:
        """Seal what the last round led to; nothing follows."""

    def audit(self, asked: Mapping[int, Question]) -> Sequence[Audited]:
        """Replay all blocks of the folder it was opened with, from the first. asked: what the
        round of a height asked, where that is known. Raises IntegrityError at the first lie."""
