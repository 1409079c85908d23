"""Oracle O-Q: quorums that always share an honest server."""

from dataclasses import replace
from itertools import combinations

import pytest

from consensus.identity import SignatureCheck
from consensus.pofel.messages import Entry, Final
from consensus.pofel.seal import Seal, quorum, verify
from consensus.pofel.settings import tolerated
from fedalign.core.errors import DataError, IntegrityError
from tests.consensus.pofel.servers import CHAIN, CHECK, keys, nodes

HEADER = bytes([7]) * 32


def final(i, rank=0, header=HEADER, round_=3, chain=CHAIN):
    return Entry.sign(keys(6)[i], chain, round_, Final(rank, header))


def judge(finals, n=5, **change):
    place = {"chain_id": CHAIN, "round_": 3, "rank": 0, "header_hash": HEADER,
             "members": nodes(n), "check": CHECK, **change}  # fmt: skip
    verify(Seal(tuple(finals)), **place)


def test_O_Q_quorums():
    assert [quorum(n) for n in range(4, 11)] == [3, 4, 5, 5, 6, 7, 7]
    assert [quorum(n) for n in range(4, 11)] == [
        n - tolerated(n, "byzantine") for n in range(4, 11)
    ]


@pytest.mark.parametrize("n", range(4, 9))
def test_any_two_quorums_share_more_servers_than_may_lie(n):
    sets = list(combinations(range(n), quorum(n)))
    assert min(len(set(a) & set(b)) for a in sets for b in sets) > tolerated(n, "byzantine")


def test_O_Q_two_certificates_of_2f_plus_1_at_n_5_are_refused():
    """{0,1,2} and {2,3,4}: with server 2 lying both could exist for different blocks."""
    for trio in ((0, 1, 2), (2, 3, 4)):
        with pytest.raises(IntegrityError, match="3 servers' signatures, 4 of 5"):
            judge(final(i) for i in trio)
    judge(final(i) for i in (0, 1, 2, 3))


def test_a_signature_counts_once_and_for_this_block_only():
    with pytest.raises(IntegrityError, match="1 servers'"):
        judge([final(0)] * 4)
    three = [final(i) for i in range(3)]
    bad = {
        "another block": final(3, header=bytes(32)),
        "over another block": final(3, rank=1),
        "another place": final(3, round_=4),
        "of another place": final(5),  # no member of five
        "bad signature: forged": replace(final(3), signature=final(2).signature),
    }
    for why, extra in bad.items():
        with pytest.raises(IntegrityError, match=why):
            judge([*three, extra])
    judge([final(0), final(1), final(2)], needs=3)  # a majority, where servers only crash


def test_a_seal_comes_back_from_its_bytes():
    seal = Seal(tuple(final(i) for i in range(4)))
    assert Seal.decode(seal.encode()) == seal
    for bad in (b"", seal.encode()[:-1], b"\xc1\xc0"):
        with pytest.raises(DataError):
            Seal.decode(bad)


def test_verifying_a_seal_again_checks_no_signature_again():
    check = SignatureCheck()
    for _ in range(3):
        judge([final(i) for i in range(4)], check=check)
    assert check.done == 4
