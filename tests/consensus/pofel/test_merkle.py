"""Oracle O-M, and proofs that prove one leaf at one place."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.pofel import merkle

FIVE = [merkle.leaf(bytes([i]) * 4) for i in range(5)]
LEAF0 = "8855508aade16ec573d21e6a485dfd0a7624085c1a14b5ecdd6485de0c6839a4"
ROOT = "6ddf19d7992980914940764ce860f688b20f53e454fc31be38549a2ac3564136"


def test_O_M_five_chunks():
    """((0 1)(2 3)) 4: the left subtree is the largest power of two."""

    def node(left, right):
        return hashlib.sha256(b"\1" + left + right).digest()

    a, b, c, d, e = FIVE
    assert a.hex() == LEAF0
    assert node(node(node(a, b), node(c, d)), e) == merkle.root(FIVE)
    assert merkle.root(FIVE).hex() == ROOT
    assert merkle.root_of(b"".join(bytes([i]) * 4 for i in range(5)), chunk=4).hex() == ROOT


def test_none_one_and_no_doubled_last_leaf():
    assert merkle.root([]) == hashlib.sha256(b"").digest()
    assert merkle.root(FIVE[:1]) == FIVE[0]
    assert merkle.root(FIVE) != merkle.root([*FIVE, FIVE[-1]])
    assert merkle.root_of(b"") == merkle.leaf(b"")


@given(count=st.integers(1, 40), data=st.data())
def test_a_proof_proves_its_leaf_at_its_place_only(count, data):
    leaves = [merkle.leaf(bytes([i])) for i in range(count)]
    root, index = merkle.root(leaves), data.draw(st.integers(0, count - 1))
    path = merkle.proof(leaves, index)
    assert merkle.proves(root, leaves[index], index, count, path)
    other = data.draw(st.integers(0, count))
    if other != index:
        assert not merkle.proves(root, leaves[index], other, count, path)
    assert not merkle.proves(root, merkle.leaf(b"no"), index, count, path)
    assert not merkle.proves(root, leaves[index], index, count, (*path, bytes(32)))
    if path:
        assert not merkle.proves(root, leaves[index], index, count, path[:-1])


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 250])
def test_chunks_cover_the_data(size):
    data = bytes(i % 251 for i in range(size))
    parts = list(merkle.chunks(data, 100))
    assert b"".join(parts) == data and len(parts) == max(1, -(-size // 100))
