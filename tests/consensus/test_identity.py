"""Signatures fit one object of one signer: security tests T-07 and T-08."""

import hashlib
import pickle

import pytest
from eth_keys import keys as eth
from hypothesis import given
from hypothesis import strategies as st

from consensus.identity import ORDER, Key, SignatureCheck, digest, prefixed, recover, refusal
from consensus.pofel.messages import Commit, Entry
from fedalign.core.errors import ConfigError
from tests.consensus.pofel.known_keys import key

PLACE = dict(
    domain="fedalign/x/v1", chain_id=1, round_=7, view=0, node_id=key(0).node_id, body=b"a"
)


def test_the_digest_is_the_hash_of_what_the_specification_lists():
    written = (
        bytes.fromhex("0000000d") + b"fedalign/x/v1" + bytes(7) + b"\1" + bytes(7) + b"\7"
        + bytes(4) + bytes.fromhex("00000014") + key(0).node_id + bytes.fromhex("00000001") + b"a"
    )  # fmt: skip
    assert digest(**PLACE) == hashlib.sha256(written).digest()
    assert prefixed(b"abc") == b"\0\0\0\3abc"


@pytest.mark.parametrize(
    "change",
    [
        {"domain": "fedalign/y/v1"},
        {"chain_id": 2},
        {"round_": 6},
        {"view": 1},
        {"node_id": key(1).node_id},
        {"body": b"b"},
    ],
)
def test_T07_a_signature_replayed_elsewhere_does_not_fit(change):
    """Another domain, chain, round, view, signer or body: another digest."""
    signature = key(0).sign(digest(**PLACE))
    check = SignatureCheck()
    assert check(digest(**PLACE), signature, key(0).node_id) is None
    moved = {**PLACE, **change}
    assert check(digest(**moved), signature, moved["node_id"]) == "forged"


def test_T08_twins_and_damage_are_refused_by_name():
    message = digest(**PLACE)
    good = key(0).sign(message)
    s = int.from_bytes(good[32:64], "big")
    twin = good[:32] + (ORDER - s).to_bytes(32, "big") + bytes([1 - good[64]])
    assert eth.Signature(twin).recover_public_key_from_msg_hash(message).to_canonical_address() \
        == key(0).node_id  # valid mathematics  # fmt: skip
    check, node = SignatureCheck(), key(0).node_id
    assert check(message, twin, node) == "high_s"
    assert check(message, good[:64] + bytes([1 - good[64]]), node) == "forged"
    assert check(message, good[:64] + b"\x1b", node) == "recovery_id"
    assert check(message, bytes(32) + good[32:], node) == "signature_range"
    assert check(message, good[:32] + bytes(32) + good[64:], node) == "signature_range"
    assert check(message, ORDER.to_bytes(32, "big") + good[32:], node) == "signature_range"
    assert check(message, good[:-1], node) == "signature_length"
    assert check(message, good, key(1).node_id) == "forged"


def test_an_r_that_is_no_point_recovers_nobody():
    """x = 5 is on no point of secp256k1: 5³ + 7 = 132 has no square root there."""
    signature = (5).to_bytes(32, "big") + (1).to_bytes(32, "big") + b"\0"
    assert refusal(signature) is None
    assert recover(bytes(32), signature) is None


@given(secret=st.integers(1, ORDER - 1), message=st.binary(min_size=32, max_size=32))
def test_signatures_equal_an_independent_implementations(secret, message):
    mine = Key(secret.to_bytes(32, "big"))
    other = eth.PrivateKey(secret.to_bytes(32, "big"))
    assert mine.node_id == other.public_key.to_canonical_address()
    signature = mine.sign(message)
    assert signature == other.sign_msg_hash(message).to_bytes()
    assert refusal(signature) is None and recover(message, signature) == mine.node_id


def test_no_signature_is_checked_twice():
    check, entry = SignatureCheck(), Entry.sign(key(0), 1, 1, Commit(bytes(32), 0, bytes(32), 0))
    for _ in range(5):
        assert check(entry.digest, entry.signature, entry.sender) is None
    assert check.done == 1


def test_a_full_memory_forgets_the_oldest():
    check = SignatureCheck(capacity=2)
    messages = [bytes([i]) * 32 for i in range(3)]
    for message in (*messages, messages[0]):
        check(message, key(0).sign(message), key(0).node_id)
    assert check.done == 4


def test_bad_secrets_are_refused_and_none_is_shown():
    for bad in (bytes(32), ORDER.to_bytes(32, "big"), b"short"):
        with pytest.raises(ConfigError, match="32 fresh random bytes"):
            Key(bad)
    assert "secret" not in repr(key(0)) and key(0).secret.hex() not in repr(key(0))
    assert pickle.loads(pickle.dumps(key(0))) == key(0)


def test_what_was_signed_here_is_not_recovered():
    check, key, message = SignatureCheck(capacity=2), Key(bytes([5]) * 32), bytes(32)
    signature = key.sign(message)
    check.made(message, signature, key.node_id)
    assert check(message, signature, key.node_id) is None and check.done == 0
    assert check(message, signature, bytes(20)) == "forged"
    for i in range(3):
        check.made(bytes([i]) * 32, signature, key.node_id)
    assert len(check._known) == 2
