"""Invariants: what must hold of honest servers after every event, whatever f liars do.

Paper: Buchman, Kwon and Milosevic, arXiv 1807.04938, Section 2.2 (agreement, validity) and
Lemmas 2-4 (one vote, locks).
"""

from __future__ import annotations

from collections.abc import Iterable

from consensus.bft.accountability import culprits
from consensus.bft.messages import Decision, Equivocation, Proposal, Step, Vote, digest_of, vote_of
from consensus.bft.quorum import quorum
from fedalign.core.errors import IntegrityError


class Invariants:
    """Watches `n` servers, of which `honest` follow the protocol; raises IntegrityError."""

    def __init__(self, n: int, honest: Iterable[int]):
        self.n, self.honest = n, frozenset(honest)
        self.decided: dict[int, bytes] = {}
        self.asked: set[bytes] = set()  # items that clients asked to be ordered
        self.votes: dict[int, set[Vote]] = {}  # by height, whatever anybody sent
        self._cast: dict[tuple[int, int, int, Step], tuple] = {}

    def sent(self, what: Vote | Proposal) -> None:
        """A vote or proposal left its signer."""
        vote = what if isinstance(what, Vote) else vote_of(what)
        seen = self.votes.setdefault(vote.height, set())
        if vote in seen:
            return
        seen.add(vote)
        if vote.voter in self.honest:
            key = vote.voter, vote.height, vote.round, vote.step
            if self._cast.setdefault(key, vote[3:5]) != vote[3:5]:
                raise IntegrityError(f"OneVoteInv: server {vote.voter} signed twice: {vote[:5]}.")

    def applied(self, server: int, decision: Decision) -> None:
        """An honest server took in a decision."""
        digest = digest_of(decision.batch)
        if self.decided.setdefault(decision.height, digest) != digest:
            raise IntegrityError(
                f"AgreementInv: server {server} decided another batch at height {decision.height}."
            )
        for_it = {
            vote.voter
            for vote in decision.certificate
            if vote[:4] == (Step.PRECOMMIT, decision.height, decision.round, digest)
        }
        if len(for_it) < quorum(self.n):
            raise IntegrityError(
                f"CertificateInv: height {decision.height} has {len(for_it)} precommits of the "
                f"{quorum(self.n)} it needs."
            )
        unasked = [item for item in decision.batch if item not in self.asked]
        if unasked:
            raise IntegrityError(f"ValidityInv: nobody asked for {unasked[0]!r} to be ordered.")

    def accused(self, evidence: Equivocation) -> None:
        """A server showed two contradicting signatures."""
        if evidence.first.voter in self.honest:
            raise IntegrityError(f"EvidenceInv: honest server {evidence.first.voter} is accused.")

    def everything(self) -> None:
        """Over all votes ever sent: no honest server double-signed or forgot a lock."""
        for height in sorted(self.votes):
            for server, proof in culprits(self.votes[height], self.n).items():
                if server in self.honest:
                    raise IntegrityError(f"LockInv: honest server {server} broke a lock: {proof}.")
