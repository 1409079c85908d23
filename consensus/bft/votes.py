"""Votes: what a server has seen signed for one height.

Paper: Buchman, Kwon and Milosevic, "The latest gossip on BFT consensus", arXiv 1807.04938.
"""

from __future__ import annotations

from collections.abc import Iterator

from consensus.bft.messages import Equivocation, Proposal, Step, Vote, digest_of, vote_of
from consensus.bft.quorum import faulty, quorum, some_honest

MAX_ROUNDS_AHEAD = 1000  # of what is remembered, so that no one can fill the memory with rounds


class Votes:
    """Proposals and votes of one height among `n` servers.

    The first vote of a server in a step counts. A contradicting one is evidence; it counts as well
    where enough others chose the same, or a liar could hide a quorum from some servers for ever.
    """

    def __init__(self, n: int):
        self.n = n
        self.proposals: dict[int, Proposal] = {}  # by round, the first
        self.digests: dict[int, bytes] = {}  # of those
        self._votes: dict[tuple[Step, int], dict[bytes, dict[int, Vote]]] = {}
        self._first: dict[tuple[Step, int, int], Vote] = {}
        self._told: set[tuple[Step, int, int]] = set()

    def add_proposal(self, proposal: Proposal) -> Equivocation | None:
        """Take in the proposal of a round."""
        known = self.proposals.setdefault(proposal.round, proposal)
        if known is proposal:
            self.digests[proposal.round] = digest_of(proposal.batch)
        return self._contradiction(vote_of(proposal))

    def add(self, vote: Vote) -> Equivocation | None:
        """Take in a vote; what it contradicts, once for each server, round and step."""
        evidence = self._contradiction(vote)
        by_digest = self._votes.setdefault((vote.step, vote.round), {})
        same = by_digest.setdefault(vote.digest, {})
        first = self._first[vote.step, vote.round, vote.voter]
        if first.digest == vote.digest or len(same) >= quorum(self.n) - faulty(self.n):
            same.setdefault(vote.voter, vote)
        elif not same:
            del by_digest[vote.digest]
        return evidence

    def _contradiction(self, vote: Vote) -> Equivocation | None:
        key = vote.step, vote.round, vote.voter
        first = self._first.setdefault(key, vote)
        if first[:5] == vote[:5] or key in self._told:
            return None
        self._told.add(key)
        return Equivocation(first, vote)

    def count(self, step: Step, round: int, digest: bytes) -> int:
        """Servers that voted for `digest`."""
        return len(self._votes.get((step, round), {}).get(digest, ()))

    def has_quorum(self, step: Step, round: int, digest: bytes) -> bool:
        """Did a quorum vote for `digest`?"""
        return self.count(step, round, digest) >= quorum(self.n)

    def quorum_voted(self, step: Step, round: int) -> bool:
        """Did a quorum vote at all, for whatever?"""
        voters: set[int] = set()
        for same in self._votes.get((step, round), {}).values():
            voters |= same.keys()
        return len(voters) >= quorum(self.n)

    def of(self, step: Step, round: int, digest: bytes) -> tuple[Vote, ...]:
        """Votes for `digest`, in order of voter."""
        same = self._votes.get((step, round), {}).get(digest, {})
        return tuple(same[voter] for voter in sorted(same))

    def in_round(self, round: int) -> Iterator[Vote]:
        """All votes of a round."""
        for step in (Step.PREVOTE, Step.PRECOMMIT):
            for same in self._votes.get((step, round), {}).values():
                yield from same.values()

    def all(self) -> tuple[Vote, ...]:
        """Every vote that counted, and the proposals as votes."""
        found = [vote_of(self.proposals[r]) for r in sorted(self.proposals)]
        for key in sorted(self._votes):
            for digest in sorted(self._votes[key]):
                found += self.of(*key, digest)
        return tuple(found)

    def dissent(self, digest: bytes) -> bool:
        """Did any server vote for something else?"""
        return any(other != digest for seen in self._votes.values() for other in seen)

    def decided(self) -> tuple[int, bytes] | None:
        """A round and digest with a quorum of precommits, if its proposal is known."""
        for step, round in self._votes:
            digest = self.digests.get(round)
            if step is Step.PRECOMMIT and digest and self.has_quorum(step, round, digest):
                return round, digest
        return None

    def later_round(self, round: int) -> int | None:
        """The highest round above `round` in which f + 1 servers, so one honest, already are."""
        voters: dict[int, set[int]] = {}
        for _, other, voter in self._first:
            if other > round:
                voters.setdefault(other, set()).add(voter)
        enough = [r for r, who in voters.items() if len(who) >= some_honest(self.n)]
        return max(enough, default=None)
