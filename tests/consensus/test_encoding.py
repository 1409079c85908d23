"""RLP, canonical only: against the `rlp` package, and against bytes it should not accept."""

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import MAX_DEPTH, decode, encode, pack, to_int, unpack
from fedalign.core.errors import DataError

items = st.recursive(st.binary(max_size=80), lambda x: st.lists(x, max_size=5), max_leaves=20)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.binary(max_size=9) | st.text(max_size=9),
    lambda x: st.lists(x, max_size=4).map(tuple) | st.dictionaries(st.binary(max_size=4), x, max_size=4),
    max_leaves=12,
)  # fmt: skip


def frozen(item):
    return item if isinstance(item, bytes) else tuple(map(frozen, item))


@given(items)
def test_same_bytes_as_the_reference_and_back(item):
    assert encode(item) == rlp.encode(item)
    assert decode(encode(item)) == frozen(item)


@given(st.binary(max_size=40))
def test_whatever_decodes_encodes_to_the_same_bytes(data):
    try:
        item = decode(data)
    except DataError:
        return
    assert encode(item) == data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "ends early"),
        ("8100", "small byte"),  # 00 in two bytes
        ("b8050102030405", "not canonical"),  # length 5 in the long form
        ("b800", "damaged length"),
        ("b90001", "damaged length"),  # leading zero in a length
        ("83aabb", "only 2"),
        ("c281", "only"),
        ("0505", "follow"),
        ("bfffffffffffffffff", "only"),  # a length of 2^64 - 1
    ],
)
def test_other_spellings_are_refused(data, why):
    with pytest.raises(DataError, match=why):
        decode(bytes.fromhex(data))


def test_sixteen_lists_deep_is_the_limit():
    item = ()
    for _ in range(MAX_DEPTH):
        item = (item,)
    assert decode(encode(item)) == item
    with pytest.raises(DataError, match="deeper"):
        decode(encode((item,)))


def test_ten_thousand_nested_lists_end_in_a_sentence_not_in_a_recursion_error():
    data = b"\xc0"
    for _ in range(10_000):
        size = len(data)
        if size < 56:
            data = bytes([0xC0 + size]) + data
        else:
            length = size.to_bytes((size.bit_length() + 7) // 8, "big")
            data = bytes([0xF7 + len(length)]) + length + data
    with pytest.raises(DataError, match="deeper"):
        decode(data)


def test_integers_have_one_spelling():
    assert encode(0) == b"\x80" and encode(127) == b"\x7f" and encode(128) == b"\x81\x80"
    assert to_int(b"\x01\x00", 16) == 256
    for bad, bits in ((b"\x00\x01", 16), (b"\x01\x00\x00", 16), ((), 8)):
        with pytest.raises(DataError):
            to_int(bad, bits)


@given(plain)
def test_plain_data_comes_back_and_equal_data_has_equal_bytes(value):
    found = unpack(pack(value))
    assert found == value and pack(found) == pack(value)


def test_mappings_do_not_remember_their_order_and_floats_are_refused():
    assert pack({b"a": 1, b"b": 2}) == pack({b"b": 2, b"a": 1})
    assert pack(True) != pack(1) and pack(b"a") != pack("a")
    with pytest.raises(DataError, match="float"):
        pack((1, 0.5))
