"""Messages have one spelling, and what is no message is refused with a sentence."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import encode
from consensus.identity import SignatureCheck
from consensus.pofel.messages import (
    BODIES,
    Avail,
    Block,
    Commit,
    Entry,
    Final,
    Fraud,
    Kind,
    Mark,
    Reveal,
    Vote,
    VoteCommit,
)
from fedalign.core.errors import DataError
from tests.consensus.pofel.known_keys import key

A, B = b"\1" * 32, b"\2" * 32
EXAMPLES = [
    Commit(A, 5, B, 1_700_000_000),
    Reveal(A, B, 1, 40, b"<i4", A),
    Avail((A, B)),
    VoteCommit(A),
    Vote(3, (1000, 999_000), A),
    Mark(2, 0, 1),
    Block(1, A, 2, B, b"facts", A, b"evm"),
    Final(0, A),
    Fraud(b"a", b"b"),
]


@pytest.mark.parametrize("body", EXAMPLES, ids=lambda body: body.KIND.value)
def test_bodies_and_entries_come_back(body):
    assert type(body).parse(body.encode()) == body
    entry = Entry.sign(key(0), 7, 3, body, view=2)
    found = Entry.decode(entry.encode())
    assert found == entry and found.content == body and found.digest == entry.digest


def test_every_kind_has_a_body_and_a_domain_of_its_own():
    assert set(BODIES) == set(Kind) == {body.KIND for body in EXAMPLES}
    assert len({kind.domain for kind in Kind}) == len(Kind)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Commit, [A, 5, B]),  # a field too few
        (Commit, [A[:-1], 5, B, 0]),
        (Commit, [A, b"\0\5", B, 0]),  # a leading zero
        (Commit, [A, 2**64, B, 0]),
        (Commit, [A, [], B, 0]),
        (Avail, [[A, A[:-1]]]),
        (Avail, [[A] * 129]),
        (Avail, [A]),
        (Mark, [0, 0, 2]),
        (Vote, [2**16, [], A]),
        (Reveal, [A, B, 1, 40, b"x" * 17, A]),
    ],
)
def test_other_shapes_are_refused(kind, fields):
    with pytest.raises(DataError):
        kind.parse(encode(fields))


@given(st.binary(max_size=60))
def test_noise_is_no_entry(data):
    with pytest.raises(DataError):
        Entry.decode(data)


def test_an_unknown_type_is_named():
    entry = Entry.sign(key(0), 1, 1, Mark(0, 0, 1))
    data = entry.encode().replace(b"mark", b"merk")
    with pytest.raises(DataError, match="merk"):
        Entry.decode(data)


def test_a_bit_flipped_anywhere_is_noticed():
    """Every byte of a signed entry is the kind, covered by the signature, or the signature."""
    entry = Entry.sign(key(0), 1, 1, Commit(A, 5, B, 9))
    data, check = entry.encode(), SignatureCheck()
    for place in range(len(data)):
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        try:
            found = Entry.decode(damaged)
        except DataError:
            continue
        assert check(found.digest, found.signature, found.sender) is not None
    assert check(entry.digest, replace(entry).signature, entry.sender) is None
