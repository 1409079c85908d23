"""Commitments: oracles O-H1 and O-H2, and the four games of copying."""

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from consensus.pofel import evaluation, hcds
from consensus.pofel.messages import Commit, Reveal
from consensus.pofel.state import Phase
from tests.consensus.pofel.servers import CHAIN, Servers, near, nonce, reasons, settings

ONE = hcds.commit(131277, 7, b"\x11" * 20, b"\xab" * 32, bytes(31) + b"\1")
words = st.binary(min_size=32, max_size=32)


def test_O_H1_the_preimage_is_written_out():
    preimage = (
        bytes.fromhex("00000018") + b"fedalign/pofel/commit/v1"
        + bytes.fromhex("00000000000200cd") + bytes.fromhex("0000000000000007")
        + bytes.fromhex("00000014") + b"\x11" * 20 + bytes.fromhex("00000020") + b"\xab" * 32
        + bytes.fromhex("00000020") + bytes(31) + b"\1"
    )  # fmt: skip
    assert hashlib.sha256(preimage).digest() == ONE
    assert ONE.hex() == "e58f82dde6f81bddb1cc679784ddf302cd027a636ea96d5bb588b281fb1b8134"


def test_O_H2_another_node_another_digest():
    two = hcds.commit(131277, 7, b"\x22" * 20, b"\xab" * 32, bytes(31) + b"\1")
    assert two.hex() == "b8584c6b1fa3a557eb779440d27446accac11914b8de1b77289bafb006bfc05b"
    assert not hcds.open_ok(ONE, 131277, 7, b"\x22" * 20, b"\xab" * 32, bytes(31) + b"\1")


@given(root=words, secret=words, other=words)
def test_only_what_was_committed_opens(root, secret, other):
    place = (5, 9, b"\x33" * 20)
    c = hcds.commit(*place, root, secret)
    assert hcds.open_ok(c, *place, root, secret)
    assert hcds.open_ok(c, *place, other, secret) == (other == root)
    assert hcds.open_ok(c, *place, root, other) == (other == secret)
    assert not hcds.open_ok(c, 6, 9, place[2], root, secret)
    assert not hcds.open_ok(c, 5, 8, place[2], root, secret)
    assert not hcds.open_ok(c, *place, root, secret + b"\0")


def test_game_a_nothing_of_the_model_is_in_a_commit():
    """The commit of one model under two nonces shares no more bits than two random words do."""
    place = (CHAIN, 1, b"\x11" * 20)
    found = {hcds.commit(*place, bytes(32), nonce(i)) for i in range(500)}
    assert len(found) == 500
    ones = sum(int.from_bytes(c, "big").bit_count() for c in found) / (500 * 256)
    assert abs(ones - 0.5) < 0.01


def test_game_b_a_copied_commitment_cannot_be_opened():
    """T-01: server 1 commits what server 0 committed, and replays its opening."""
    s = Servers(settings(4))
    s.commit(0)
    stolen = s.state.committed(s.node(0))[1]
    s.send(1, Commit(stolen, 100, s.state.head, 1001))
    for i in (2, 3):
        s.commit(i)
    s.mark(timeout=0)
    s.reveal(0)
    root, opened, length = s.state.reveals[s.node(0)]
    assert reasons(s.send(1, Reveal(root, opened, 1, length, b"<i4", bytes(32)))) == [
        "does_not_open"
    ]
    s.reveal(2), s.reveal(3)
    s.mark()
    assert s.strikes() == [(1, "late_reveal")]
    s.until(None)
    assert s.state.balances.get(s.node(1), 0) < s.state.balances[s.node(2)] // 10  # a voter's part
    assert s.state.height == 1


def test_game_c_after_a_reveal_no_commit_is_accepted():
    """T-02: what is ordered after the mark changes nothing."""
    s = Servers(settings(4), lazy={3: {"commit"}})
    s.until(Phase.REVEAL)
    s.reveal(0)
    root, _, _ = s.state.reveals[s.node(0)]
    before = s.machine.state_hash()
    late = hcds.commit(CHAIN, 1, s.node(3), root, nonce("late"))
    assert reasons(s.send(3, Commit(late, 100, s.state.head, 1001))) == ["other_phase"]
    assert s.machine.state_hash() == before


def test_game_d_near_copies_and_idle_rows_earn_nothing():
    """T-03, T-04: server 1 copies server 0 but for one part in 10^4; server 2 sends zeros."""
    s = Servers(settings(5))
    s.models = {0: near(0), 1: near(0) + 1, 2: np.zeros(8, np.int64), 3: near(3), 4: near(4)}
    s.until(None)
    pay = s.state.balances
    voters = settings(5).rewards.units * 5 // 100 // 5
    assert pay[s.node(1)] == pay[s.node(2)] == voters
    assert pay[s.node(0)] > 100_000 and pay[s.node(3)] > 100_000
    assert s.state.recent[-1] not in (s.node(1), s.node(2))


def test_game_d_the_threshold_is_a_thousandth_of_the_longer_row():
    """|a|² = 10^12, δ = 10^-3: copies differ by at most 10^3."""
    a = np.array([1_000_000, 0], dtype=np.int64)
    for apart, found in ((999, [1]), (1000, [1]), (1001, [])):
        assert evaluation.copies([a, np.array([1_000_000, apart])]) == found


def test_a_copy_of_a_copy_copies_the_first_and_nobody_copies_himself():
    """Rows 0, 900, 1800 along one axis: the last is near the second only. In 'again', A's model
    of an aborted round comes first: A may send it again, B may not."""
    rows = [np.array([1_000_000, x], dtype=np.int64) for x in (0, 900, 1800)]
    assert evaluation.copies(rows) == [1, 2]
    again = [rows[0], rows[0], rows[0]]
    assert evaluation.copies(again, authors=[b"A", b"B", b"A"]) == [1]


def test_a_model_of_an_aborted_round_stays_its_authors():
    s = Servers(settings(4), models={i: near(i) for i in range(4)})
    s.until(Phase.AVAIL)
    s.mark()  # nobody fetched anything
    assert s.aborts() == 1 and s.state.height == 0 and len(s.state.earlier) == 4
    s.models[1] = near(0)
    for i in (1, 0, 2, 3):  # the thief is faster this time
        s.commit(i)
    s.mark(timeout=0)
    s.until(None)
    assert s.state.height == 1
    assert s.state.balances[s.node(0)] > 10 * s.state.balances[s.node(1)]


@given(choice=st.integers(0, 3), other=st.integers(0, 3), who=st.sampled_from([b"A", b"B"]))
def test_a_copied_vote_commit_opens_for_its_owner_only(choice, other, who):
    shares = (250_000,) * 4
    told = hcds.commit_vote(1, 2, b"A" * 20, choice, shares, bytes(32))
    again = hcds.commit_vote(1, 2, who * 20, other, shares, bytes(32))
    assert (told == again) == (who == b"A" and choice == other)
