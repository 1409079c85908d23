"""Signing: a server's signatures on votes and proposals, and the gate that checks others'.

Forged, replayed and misshapen messages end at the gate, counted by reason; the core meets only
what its signer has signed for this chain, height, round and step.

Source: the domain-separated digest of `consensus.identity`; the message shapes are ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

from consensus.bft.messages import (
    NIL,
    NO_ROUND,
    Batch,
    Body,
    Bundle,
    Decision,
    Items,
    Proposal,
    Status,
    Step,
    Vote,
    vote_of,
)  # fmt: skip
from consensus.encoding import pack
from consensus.identity import Key, SignatureCheck, digest

DOMAINS = {step: f"fedalign/bft/{step.name.lower()}/v1" for step in Step}
U32, U64 = 1 << 32, 1 << 64


@lru_cache(maxsize=1 << 14)  # the same votes come again and again, in bundles
def signed_digest(vote: Vote, chain_id: int, node_id: bytes) -> bytes:
    """The 32 bytes under a vote's signature."""
    body = pack((vote.digest, vote.pol_round))
    return digest(DOMAINS[vote.step], chain_id, vote.height, vote.round, node_id, body)


class Signer:
    """Signs as one server on one chain."""

    def __init__(self, key: Key, chain_id: int):
        self._key, self._chain_id = key, chain_id

    def __call__(self, vote: Vote) -> bytes:
        """The signature of a vote, or of a proposal seen as one."""
        return self._key.sign(signed_digest(vote, self._chain_id, self._key.node_id))


class Gate:
    """Lets only well-formed, truly signed messages through.

    node_ids: of each server, by id. most_bytes: payload of one message. refused: how many were
    not let through, by reason.
    """

    def __init__(
        self,
        node_ids: Mapping[int, bytes] | Sequence[bytes],
        chain_id: int,
        check: SignatureCheck | None = None,
        most_bytes: int = 4 << 20,
    ):
        self._node_ids = dict(
            node_ids.items() if isinstance(node_ids, Mapping) else enumerate(node_ids)
        )
        self._chain_id, self._check = chain_id, check or SignatureCheck()
        self._most_bytes = most_bytes
        self.refused: Counter[str] = Counter()

    def admit(self, body: Body) -> Body | None:
        """The message, a bundle without its bad parts, or None."""
        if isinstance(body, Bundle):
            return Bundle(
                tuple(p for p in body.proposals if self._passes(p)),
                tuple(v for v in body.votes if self._passes(v)),
            )
        return body if self._passes(body) else None

    def _passes(self, body: Body) -> bool:
        reason = self._reason(body)
        if reason:
            self.refused[reason] += 1
        return not reason

    def _reason(self, body: Body) -> str | None:
        if isinstance(body, Vote):
            return self._of_vote(body)
        if isinstance(body, Proposal):
            return self._of_batch(body.batch) or self._of_vote(vote_of(body))
        if isinstance(body, Decision):
            return self._of_decision(body)
        if isinstance(body, Items):
            return self._of_batch(body.data)
        if isinstance(body, Status):
            return None if 0 < body.height < U64 else "height"
        return "kind"

    def _of_batch(self, batch: Batch) -> str | None:
        if not all(isinstance(item, bytes) for item in batch):
            return "shape"
        return "oversized" if sum(map(len, batch)) > self._most_bytes else None

    def _of_vote(self, vote: Vote) -> str | None:
        if vote.voter not in self._node_ids:
            return "stranger"
        if not 0 < vote.height < U64:
            return "height"
        if not 0 <= vote.round < U32 or not NO_ROUND <= vote.pol_round < max(vote.round, 0):
            return "round"
        if vote.digest != NIL and len(vote.digest) != 32:
            return "digest"
        if vote.step is Step.PRECOMMIT and vote.pol_round != NO_ROUND:
            return "round"
        node_id = self._node_ids[vote.voter]
        return self._check(signed_digest(vote, self._chain_id, node_id), vote.signature, node_id)

    def _of_decision(self, decision: Decision) -> str | None:
        if reason := self._of_batch(decision.batch):
            return reason
        for vote in decision.certificate:
            if vote.step is not Step.PRECOMMIT or vote[1:3] != decision[:2]:
                return "certificate"
            if reason := self._of_vote(vote):
                return reason
        return None
