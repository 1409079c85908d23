"""Quorum arithmetic: by hand, exhaustively against the definition, and for two majorities."""

from itertools import combinations, product

import pytest

from consensus.raft.quorum import (
    EVERYTHING,
    VoteResult,
    committed,
    joint_committed,
    joint_vote_result,
    majority,
    vote_result,
)  # fmt: skip


def test_oracle_majority_index():
    """Match (12, 9, 7, 7, 3): three of five hold 7."""
    assert committed(range(5), dict(enumerate((12, 9, 7, 7, 3)))) == 7


def test_oracle_joint_index():
    """{1,2,3} holds 8, {3,4,5} holds 5: both hold 5."""
    match = {1: 9, 2: 8, 3: 7, 4: 5, 5: 2}
    assert committed((1, 2, 3), match) == 8
    assert joint_committed((1, 2, 3), (3, 4, 5), match) == 5


def test_oracle_four_voters():
    """2 yes + 2 no lost, 2 yes + 1 no + 1 silent pending, 3 yes won."""
    assert vote_result(range(4), {0: True, 1: True, 2: False, 3: False}) is VoteResult.LOST
    assert vote_result(range(4), {0: True, 1: True, 2: False}) is VoteResult.PENDING
    assert vote_result(range(4), {0: True, 1: True, 2: True}) is VoteResult.WON


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_majority(voters, needed):
    assert majority(voters) == needed


@pytest.mark.parametrize("size", range(1, 6))
def test_committed_is_the_largest_index_some_majority_holds(size):
    """All matches in {0..3}^size against the definition."""
    for match in product(range(4), repeat=size):
        holds = dict(enumerate(match))
        expected = max(
            min(holds[v] for v in some) for some in combinations(range(size), majority(size))
        )
        assert committed(range(size), holds) == expected


@pytest.mark.parametrize("size", range(1, 6))
def test_votes_against_the_definition(size):
    """All of yes, no, silent: won iff a majority said yes, lost iff no majority can any more."""
    for answers in product((True, False, None), repeat=size):
        votes = {v: a for v, a in enumerate(answers) if a is not None}
        yes, no = answers.count(True), answers.count(False)
        expected = VoteResult.PENDING
        if yes >= majority(size):
            expected = VoteResult.WON
        elif size - no < majority(size):
            expected = VoteResult.LOST
        assert vote_result(range(size), votes) is expected


def test_joint_votes_exhaustively():
    """Two overlapping halves {0,1,2}, {2,3,4}: won iff both are, lost iff either is."""
    for answers in product((True, False, None), repeat=5):
        votes = {v: a for v, a in enumerate(answers) if a is not None}
        halves = {vote_result((0, 1, 2), votes), vote_result((2, 3, 4), votes)}
        result = joint_vote_result((0, 1, 2), (2, 3, 4), votes)
        if VoteResult.LOST in halves:
            assert result is VoteResult.LOST
        else:
            assert (result is VoteResult.WON) == (halves == {VoteResult.WON})


def test_joint_commits_exhaustively():
    for match in product(range(3), repeat=5):
        holds = dict(enumerate(match))
        both = joint_committed((0, 1, 2), (2, 3, 4), holds)
        assert both == min(committed((0, 1, 2), holds), committed((2, 3, 4), holds))


def test_two_majorities_of_one_set_meet():
    for size in range(1, 8):
        for one in combinations(range(size), majority(size)):
            for other in combinations(range(size), majority(size)):
                assert set(one) & set(other)


def test_an_empty_half_holds_nothing_back():
    assert committed((), {}) == EVERYTHING
    assert joint_committed((0,), (), {0: 3}) == 3
    assert joint_vote_result((0,), (), {0: True}) is VoteResult.WON
