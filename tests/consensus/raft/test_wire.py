"""Raft messages as bytes: every one comes back equal, noise does not come at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.raft import wire
from consensus.raft.messages import ConfState, Entry, EntryKind, Kind, Message, Snapshot
from fedalign.core.errors import DataError

U64 = st.integers(0, (1 << 64) - 1)
IDS = st.integers(-1, 1 << 40)
GROUPS = st.lists(st.integers(0, 9), unique=True, max_size=4).map(tuple)


@st.composite
def entries(draw):
    first = draw(st.integers(1, 1000))
    drawn = draw(
        st.lists(
            st.tuples(st.integers(0, 5), st.sampled_from(EntryKind), st.binary(max_size=40)),
            max_size=8,
        )
    )
    return [Entry(t, index, kind, data) for index, (t, kind, data) in enumerate(drawn, first)]


SNAPSHOTS = st.none() | st.builds(
    Snapshot, U64, U64, st.builds(ConfState, GROUPS, GROUPS, GROUPS, GROUPS, st.booleans()),
    st.binary(max_size=50),
)  # fmt: skip
MESSAGES = st.builds(
    Message, st.sampled_from(Kind), IDS, IDS, U64, U64, U64, U64, st.booleans(), U64, entries(),
    st.binary(max_size=20), SNAPSHOTS, U64,
)  # fmt: skip


@given(MESSAGES)
def test_every_message_comes_back(message):
    again = wire.from_bytes(wire.to_bytes(message))
    assert again._replace(entries=list(again.entries)) == message


@given(st.binary(max_size=200))
def test_noise_is_refused_with_one_kind_of_error(noise):
    try:
        wire.from_bytes(noise)
    except DataError as error:
        assert str(len(noise)) in str(error)


@pytest.mark.parametrize("cut", range(1, 120, 7))
def test_cut_messages_are_refused(cut):
    whole = wire.to_bytes(
        Message(Kind.APP, 1, 0, 3, entries=[Entry(3, 9, EntryKind.NORMAL, b"data")], context=b"c")
    )
    with pytest.raises(DataError):
        wire.from_bytes(whole[:-cut] if cut < len(whole) else b"")
    with pytest.raises(DataError):
        wire.from_bytes(whole + b"\0" * cut)
