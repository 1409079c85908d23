"""Hello: two servers prove their keys to each other before anything else is said.

    dialer -> listener   (version, chain, id, nonce)
    listener -> dialer   (version, chain, id, nonce, signature)
    dialer -> listener   (signature)

Both sign both nonces, the other's key and their own role, so nothing can be replayed into another
connection or mirrored back. A machine without I/O. It authenticates the connection, not each byte
that follows: across machines, run it inside mutual TLS.

Source: challenge and response as in ISO/IEC 9798-3 (three-pass mutual authentication).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from consensus.encoding import pack, unpack
from consensus.identity import Key, digest, prefixed, recover
from fedalign.core.errors import DataError, IntegrityError

VERSION, NONCE_BYTES = 1, 32
DOMAIN = "fedalign/net/hello/v1"
DIALER, LISTENER = 0, 1


def _fresh() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


class HelloError(IntegrityError):
    """The other side is not who it should be; `reason` is one word, for counting."""

    def __init__(self, reason: str, text: str):
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class Credentials:
    """Who a server is. members: node ids of all servers it talks to, by server id."""

    id: int
    key: Key
    chain_id: int
    members: Mapping[int, bytes]
    nonce: Callable[[], bytes] = _fresh


class Dialer:
    """The side that calls server `to`; `done` once both are proved."""

    def __init__(self, mine: Credentials, to: int):
        self._mine, self.peer, self.done = mine, to, False
        self._nonce = mine.nonce()

    def first(self) -> bytes:
        """What to say on connecting."""
        return _introduction(self._mine, self._nonce)

    def take(self, frame: bytes) -> bytes:
        """The listener's answer; returns the dialer's proof. Raises HelloError."""
        *head, signature = _fields(frame, 5)
        id, nonce = _introduced(self._mine, tuple(head))
        if id != self.peer:
            raise HelloError("identity", f"Server {self.peer} was called, server {id} answered.")
        _check(self._mine, id, LISTENER, self._nonce, nonce, signature)
        self.done = True
        return pack((_prove(self._mine, id, DIALER, self._nonce, nonce),))


class Listener:
    """The side that was called; `peer` is proved once `done`."""

    def __init__(self, mine: Credentials):
        self._mine, self.peer, self.done = mine, -1, False
        self._nonce, self._theirs = mine.nonce(), b""

    def take(self, frame: bytes) -> bytes | None:
        """An introduction, then a proof; returns what to answer. Raises HelloError."""
        if self.peer < 0:
            self.peer, self._theirs = _introduced(self._mine, _fields(frame, 4))
            proof = _prove(self._mine, self.peer, LISTENER, self._theirs, self._nonce)
            return _introduction(self._mine, self._nonce, proof)
        (signature,) = _fields(frame, 1)
        _check(self._mine, self.peer, DIALER, self._theirs, self._nonce, signature)
        self.done = True
        return None


def _introduction(mine: Credentials, nonce: bytes, *proof: bytes) -> bytes:
    return pack((VERSION, mine.chain_id, mine.id, nonce, *proof))


def _fields(frame: bytes, count: int) -> tuple:
    try:
        fields = unpack(frame)
    except DataError as error:
        raise HelloError("shape", f"This is no hello: {error}") from error
    if not isinstance(fields, tuple) or len(fields) != count:
        raise HelloError("shape", f"A hello of {count} fields was expected.")
    return fields


def _introduced(mine: Credentials, fields: tuple) -> tuple[int, bytes]:
    version, chain_id, id, nonce = fields
    if version != VERSION:
        raise HelloError("version", f"Version {version} was met, {VERSION} is spoken here.")
    if chain_id != mine.chain_id:
        raise HelloError("chain", f"A server of chain {chain_id} called chain {mine.chain_id}.")
    if id not in mine.members or id == mine.id:
        raise HelloError("stranger", f"Server {id} is no peer; known: {sorted(mine.members)}.")
    if not isinstance(nonce, bytes) or len(nonce) != NONCE_BYTES:
        raise HelloError("shape", f"A nonce has {NONCE_BYTES} bytes.")
    return id, nonce


def _signed(chain_id: int, signer: bytes, other: bytes, role: int, *nonces: bytes) -> bytes:
    body = b"".join(map(prefixed, (*nonces, other)))
    return digest(DOMAIN, chain_id, 0, role, signer, body)


def _prove(mine: Credentials, to: int, role: int, dialers: bytes, listeners: bytes) -> bytes:
    other = mine.members[to]
    return mine.key.sign(_signed(mine.chain_id, mine.key.node_id, other, role, dialers, listeners))


def _check(
    mine: Credentials, id: int, role: int, dialers: bytes, listeners: bytes, signature: bytes
) -> None:
    signer = mine.members[id]
    message = _signed(mine.chain_id, signer, mine.key.node_id, role, dialers, listeners)
    if not isinstance(signature, bytes) or recover(message, signature) != signer:
        raise HelloError("forged", f"Server {id} could not prove its key.")
