"""The hello: both sides prove their keys; whatever else is said ends the call, with a reason."""

import pytest

from consensus.encoding import pack, unpack
from consensus.identity import Key
from consensus.network.hello import Credentials, Dialer, HelloError, Listener

KEYS = [Key(bytes([7 + i] * 32)) for i in range(3)]
MEMBERS = {id: key.node_id for id, key in enumerate(KEYS)}


def credentials(id, key=None, chain=5, nonce=1):
    return Credentials(id, key or KEYS[id], chain, MEMBERS, lambda: bytes([nonce] * 32))


def meet(dialer, listener):
    answer = listener.take(dialer.first())
    assert listener.take(dialer.take(answer)) is None


def test_two_members_meet():
    dialer, listener = Dialer(credentials(0), 1), Listener(credentials(1, nonce=2))
    meet(dialer, listener)
    assert dialer.done and listener.done and listener.peer == 0


@pytest.mark.parametrize(
    ("caller", "called", "to", "reason"),
    [
        (credentials(0, chain=6), credentials(1), 1, "chain"),
        (credentials(0), credentials(2), 1, "identity"),  # another server answers
        (credentials(0, key=KEYS[2]), credentials(1), 1, "forged"),  # claims to be 0
        (credentials(0), credentials(1, key=KEYS[2]), 1, "forged"),  # the listener lies
        (credentials(1), credentials(1), 1, "stranger"),  # calls itself
    ],
)
def test_whoever_is_not_who_they_should_be_is_refused(caller, called, to, reason):
    with pytest.raises(HelloError) as caught:
        meet(Dialer(caller, to), Listener(called))
    assert caught.value.reason == reason


def test_a_stranger_is_refused():
    few = Credentials(1, KEYS[1], 5, {1: MEMBERS[1], 2: MEMBERS[2]})
    with pytest.raises(HelloError, match="no peer"):
        Listener(few).take(Dialer(credentials(0), 1).first())


def test_a_recorded_hello_is_worth_nothing():
    """The proof of one meeting, played back to a listener that drew another nonce."""
    dialer, listener = Dialer(credentials(0), 1), Listener(credentials(1, nonce=2))
    first = dialer.first()
    proof = dialer.take(listener.take(first))
    later = Listener(credentials(1, nonce=3))
    later.take(first)
    with pytest.raises(HelloError) as caught:
        later.take(proof)
    assert caught.value.reason == "forged" and not later.done


def test_a_proof_cannot_be_mirrored():
    """A listener's own proof, sent back to it as the dialer's, is signed for another role."""
    listener = Listener(credentials(1, nonce=1))
    answer = listener.take(Dialer(credentials(0), 1).first())
    with pytest.raises(HelloError):
        listener.take(pack((unpack(answer)[4],)))


@pytest.mark.parametrize(
    "noise",
    [b"", b"\xc0", b"GET / HTTP/1.1\r\n\r\n", pack((1, 5, 0)), pack((1, 5, 0, b"short")), pack((2, 5, 0, bytes(32)))],
)  # fmt: skip
def test_noise_is_refused(noise):
    with pytest.raises(HelloError):
        Listener(credentials(1)).take(noise)
