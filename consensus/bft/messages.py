"""BFT messages: every value that enters or leaves the core; all are immutable.

Servers are integers >= 0. A digest names a batch, `NIL` no batch. Votes and proposals carry their
signer's 65-byte signature over height, round, step, digest and `pol_round`.

Paper: Buchman, Kwon and Milosevic, "The latest gossip on BFT consensus", arXiv 1807.04938.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from consensus.encoding import encode
from consensus.work import sha256

NIL = b""
ALL = -1  # to everyone else
NO_ROUND = -1

Batch = tuple[bytes, ...]


class Step(IntEnum):
    """What is signed in a round, in this order."""

    PROPOSE = 0
    PREVOTE = 1
    PRECOMMIT = 2


class Vote(NamedTuple):
    """A prevote or precommit. pol_round: the proof-of-lock round a prevote relies on, or -1."""

    step: Step
    height: int
    round: int
    digest: bytes
    pol_round: int
    voter: int
    signature: bytes = b""


class Proposal(NamedTuple):
    """A batch for (height, round); pol_round: where it gained a quorum of prevotes, or -1."""

    height: int
    round: int
    batch: Batch
    pol_round: int
    proposer: int
    signature: bytes = b""


class Decision(NamedTuple):
    """A decided batch and the quorum of precommits that proves it."""

    height: int
    round: int
    batch: Batch
    certificate: tuple[Vote, ...]


class Bundle(NamedTuple):
    """Proposals and votes of several servers, passed on."""

    proposals: tuple[Proposal, ...]
    votes: tuple[Vote, ...]


class Items(NamedTuple):
    """Data that a client wants ordered, shown to every server."""

    data: Batch


class Status(NamedTuple):
    """Where a server is; whoever is further sends the decisions it lacks."""

    height: int


Body = Vote | Proposal | Decision | Bundle | Items | Status


class Message(NamedTuple):
    """To one server, or to `ALL` others. sender: filled in by the network that delivers it."""

    to: int
    body: Body
    sender: int = -1


class Equivocation(NamedTuple):
    """Two signed objects of one server for one height, round and step that contradict each other."""

    first: Vote
    second: Vote


class Ready(NamedTuple):
    """What the driver must do now, in this order.

    1. Append `records` to the journal, forced to disk iff must_sync. `messages` may go at once.
    2. Then send messages_after_persist. 3. Then apply committed_entries, and report with `advance`.
    evidence: contradictions found, each once.
    """

    records: list[bytes]
    messages: list[Message]
    messages_after_persist: list[Message]
    committed_entries: list[Decision]
    evidence: list[Equivocation]
    must_sync: bool

    @property
    def ack(self) -> Ack:
        """The report of a driver that has done all of it, without a change of members."""
        return Ack(self.committed_entries[-1].height if self.committed_entries else 0)


class Ack(NamedTuple):
    """The driver's report: heights up to `applied` are. members: voters from the next height on."""

    applied: int = 0
    members: tuple[int, ...] | None = None


@lru_cache(maxsize=64)
def digest_of(batch: Batch) -> bytes:
    """SHA-256 of a batch's canonical bytes."""
    return sha256(b"fedalign/bft/batch/v1" + encode(batch))


def vote_of(proposal: Proposal) -> Vote:
    """A proposal as the vote its proposer signed: what is compared and shown as evidence."""
    return Vote(
        Step.PROPOSE, proposal.height, proposal.round, digest_of(proposal.batch),
        proposal.pol_round, proposal.proposer, proposal.signature,
    )  # fmt: skip
