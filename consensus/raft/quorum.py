"""Quorum arithmetic: what a majority, or two majorities at once, have agreed on.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Sections 3.5 and 4.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum

EVERYTHING = 1 << 62  # what an empty set of voters agrees on: it never holds back the other half


class VoteResult(IntEnum):
    """State of an election."""

    PENDING = 0
    WON = 1
    LOST = 2


def majority(voters: int) -> int:
    """The fewest of `voters` that make a majority."""
    return voters // 2 + 1


def committed(voters: Iterable[int], match: Mapping[int, int]) -> int:
    """The largest index that a majority of voters holds; a voter without an entry holds 0."""
    held = sorted(match.get(voter, 0) for voter in voters)
    return held[len(held) - majority(len(held))] if held else EVERYTHING


def joint_committed(
    incoming: Iterable[int], outgoing: Iterable[int], match: Mapping[int, int]
) -> int:
    """The largest index that both majorities hold."""
    return min(committed(incoming, match), committed(outgoing, match))


def vote_result(voters: Iterable[int], votes: Mapping[int, bool]) -> VoteResult:
    """Won with a majority of yes, lost once that is out of reach; no voters at all: won."""
    voters = tuple(voters)
    yes = sum(votes.get(voter) is True for voter in voters)
    no = sum(votes.get(voter) is False for voter in voters)
    needed = majority(len(voters)) if voters else 0
    if yes >= needed:
        return VoteResult.WON
    return VoteResult.LOST if len(voters) - no < needed else VoteResult.PENDING


def joint_vote_result(
    incoming: Iterable[int], outgoing: Iterable[int], votes: Mapping[int, bool]
) -> VoteResult:
    """Won if won in both halves, lost if lost in either."""
    halves = (vote_result(incoming, votes), vote_result(outgoing, votes))
    if VoteResult.LOST in halves:
        return VoteResult.LOST
    return VoteResult.PENDING if VoteResult.PENDING in halves else VoteResult.WON
