"""Configuration changes: every step of the book by hand, refusals, encodings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.raft.confchange import (
    ConfChange,
    Op,
    Transition,
    decode_conf,
    encode_conf,
    leave_joint,
    next_conf,
)  # fmt: skip
from consensus.raft.config import RaftConfig
from consensus.raft.messages import ConfState
from fedalign.core.errors import ConfigError

ADD, LEARN, REMOVE = Op.ADD_VOTER, Op.ADD_LEARNER, Op.REMOVE
THREE = ConfState((1, 2, 3))


@pytest.mark.parametrize(
    ("changes", "after"),
    [
        (((ADD, 4),), ConfState((1, 2, 3, 4))),
        (((REMOVE, 3),), ConfState((1, 2))),
        (((LEARN, 4),), ConfState((1, 2, 3), learners=(4,))),
        (((LEARN, 3),), ConfState((1, 2), learners=(3,))),  # one voter less: still direct
        (((REMOVE, 9),), THREE),
    ],
)
def test_one_voter_changes_directly(changes, after):
    assert next_conf(THREE, ConfChange(changes)) == after


def test_two_voters_change_jointly_and_leave():
    joint = next_conf(THREE, ConfChange(((ADD, 4), (REMOVE, 1))))
    assert joint == ConfState((2, 3, 4), (1, 2, 3), (), (), True)
    assert next_conf(joint, ConfChange()) == ConfState((2, 3, 4))


def test_a_demoted_voter_votes_in_the_old_half_until_the_end():
    joint = next_conf(THREE, ConfChange(((LEARN, 3), (ADD, 4)), Transition.EXPLICIT))
    assert joint == ConfState((1, 2, 4), (1, 2, 3), (), (3,), False)
    assert leave_joint(joint) == ConfState((1, 2, 4), (), (3,))


def test_a_learner_is_promoted():
    conf = ConfState((1, 2), learners=(3,))
    assert next_conf(conf, ConfChange(((ADD, 3),))) == THREE


@pytest.mark.parametrize(
    ("conf", "change", "reason"),
    [
        (ConfState((1,)), ConfChange(((REMOVE, 1),)), "leaves no voter"),
        (THREE, ConfChange(), "not in transition"),
        (ConfState((1,), (2,)), ConfChange(((ADD, 3),)), "still in transition"),
        (THREE, ConfChange(((ADD, -1),)), "integers >= 0"),
    ],
)
def test_refusals_say_why(conf, change, reason):
    with pytest.raises(ConfigError, match=reason):
        next_conf(conf, change)


SERVERS = st.lists(st.integers(0, 2**40), max_size=5).map(tuple)


@given(st.builds(ConfState, SERVERS, SERVERS, SERVERS, SERVERS, st.booleans()))
def test_configurations_round_trip(conf):
    assert decode_conf(encode_conf(conf)) == conf


@given(
    st.builds(
        ConfChange,
        st.lists(st.tuples(st.sampled_from(Op), st.integers(0, 2**40)), max_size=5).map(tuple),
        st.sampled_from(Transition),
        st.binary(max_size=9),
    )
)
def test_changes_round_trip(change):
    assert ConfChange.decode(change.encode()) == change


def test_broken_changes_are_refused():
    with pytest.raises(ConfigError, match="do not hold a configuration change"):
        ConfChange.decode(b"\x00\x05")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"election_tick": 1}, "election_tick must exceed heartbeat_tick"),
        ({"heartbeat_tick": 0}, "election_tick must exceed heartbeat_tick >= 1"),
        ({"read_only": "fast"}, "'safe' or 'lease'"),
        ({"read_only": "lease", "check_quorum": False}, "needs check_quorum=true"),
        ({"max_inflight_messages": 0}, "max_inflight_messages must be at least 1"),
        ({"keep_tail": -1}, "keep_tail must be at least 0"),
    ],
)
def test_knobs_out_of_range_are_refused(wrong, text):
    with pytest.raises(ConfigError, match=text):
        RaftConfig(**wrong)
