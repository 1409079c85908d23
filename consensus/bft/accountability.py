"""Accountability: who must have lied, told from signed votes alone.

A fork needs f + 1 liars: double signers of one step, or, if the two decisions fell in different
rounds, amnesiacs, who forgot the batch they were locked on.

Paper: Buchman, Kwon and Milosevic, arXiv 1807.04938, Section 4; Civit et al., "Polygraph:
Accountable Byzantine Agreement", ICDCS 2021.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from consensus.bft.messages import NIL, Equivocation, Step, Vote
from consensus.bft.quorum import quorum


class Amnesia(NamedTuple):
    """`lock` precommitted a batch; `vote` prevoted another one later without a reason."""

    lock: Vote
    vote: Vote


def culprits(votes: Iterable[Vote], n: int) -> dict[int, Equivocation | Amnesia]:
    """Liars of one height among `n` servers, each with a proof.

    votes: merged from all servers; proposals may be among them. Amnesia is convicted only if no
    quorum of prevotes since the lock excuses it, so votes that honest servers relied on must not
    be missing.
    """
    by_server: dict[int, list[Vote]] = {}
    prevotes: dict[tuple[int, bytes], set[int]] = {}
    for vote in sorted(set(votes)):
        by_server.setdefault(vote.voter, []).append(vote)
        if vote.step is Step.PREVOTE:
            prevotes.setdefault((vote.round, vote.digest), set()).add(vote.voter)
    polkas = {key for key, voters in prevotes.items() if len(voters) >= quorum(n)}
    found = {}
    for server in sorted(by_server):
        proof = _double(by_server[server]) or _amnesia(by_server[server], polkas)
        if proof is not None:
            found[server] = proof
    return found


def _double(votes: list[Vote]) -> Equivocation | None:
    first: dict[tuple, Vote] = {}
    for vote in votes:
        known = first.setdefault((vote.step, vote.round), vote)
        if known[:5] != vote[:5]:
            return Equivocation(known, vote)
    return None


def _amnesia(votes: list[Vote], polkas: set[tuple[int, bytes]]) -> Amnesia | None:
    locks = [v for v in votes if v.step is Step.PRECOMMIT and v.digest != NIL]
    for vote in votes:
        if vote.step is not Step.PREVOTE or vote.digest == NIL:
            continue
        for lock in locks:
            excused = any((round, vote.digest) in polkas for round in range(lock.round, vote.round))
            if lock.round < vote.round and lock.digest != vote.digest and not excused:
                return Amnesia(lock, vote)
    return None
