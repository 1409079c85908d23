"""Identity: secp256k1 keys, and signatures that fit one object, round, chain and signer.

Source: SEC 1 and SEC 2 (curve and recovery), EIP-2 (low s), EIP-55's address; the digest with
domain separation is our derivation. The EVM's `ecrecover` accepts the same signatures.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache

from consensus.work import DONE, sha256
from fedalign.core.errors import ConfigError

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
NODE_ID_BYTES, SIGNATURE_BYTES = 20, 65


def prefixed(data: bytes) -> bytes:
    """LP(x): the length as u32 big-endian, then the bytes."""
    return len(data).to_bytes(4, "big") + data


def digest(
    domain: str, chain_id: int, round_: int, view: int, node_id: bytes, body: bytes
) -> bytes:
    """What is signed: SHA256(LP(domain) ‖ chain_id:u64 ‖ round:u64 ‖ view:u32 ‖ LP(node) ‖ LP(body)).

    All six are inside, so a signature fits no other message type, chain, round, view or signer.
    """
    return sha256(
        prefixed(domain.encode("ascii"))
        + chain_id.to_bytes(8, "big")
        + round_.to_bytes(8, "big")
        + view.to_bytes(4, "big")
        + prefixed(node_id)
        + prefixed(body)
    )


@dataclass(frozen=True)
class Key:
    """A server's private key. secret: 32 bytes, a number in 1 .. order - 1."""

    secret: bytes = field(repr=False)
    node_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        if len(self.secret) != 32 or not 0 < int.from_bytes(self.secret, "big") < ORDER:
            raise ConfigError(
                f"A secp256k1 key is 32 bytes, a number between 1 and the group order - 1; got "
                f"{len(self.secret)} bytes that are not: draw 32 fresh random bytes."
            )
        from coincurve import PrivateKey

        object.__setattr__(self, "_private", PrivateKey(self.secret))
        object.__setattr__(self, "node_id", _address(self._private.public_key))

    def sign(self, message: bytes) -> bytes:
        """65 bytes r ‖ s ‖ v over a 32-byte digest; deterministic (RFC 6979), s low, v in {0, 1}."""
        DONE.signatures += 1
        return self._private.sign_recoverable(message, hasher=None)

    def __reduce__(self):
        return Key, (self.secret,)


def refusal(signature: bytes) -> str | None:
    """Why these bytes are no canonical signature, or None: shape only, no curve arithmetic."""
    if len(signature) != SIGNATURE_BYTES:
        return "signature_length"
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if signature[64] not in (0, 1):
        return "recovery_id"
    if not 0 < r < ORDER or s == 0:
        return "signature_range"
    if s > ORDER // 2:  # valid mathematics, but the same signature in a second form
        return "high_s"
    return None


def recover(message: bytes, signature: bytes) -> bytes | None:
    """The node id that signed this 32-byte digest, or None where nobody can have."""
    from coincurve import PublicKey

    if refusal(signature) is not None:
        return None
    DONE.signatures += 1
    try:
        return _address(PublicKey.from_signature_and_message(signature, message, hasher=None))
    except ValueError:  # r is no point of the curve
        return None


class SignatureCheck:
    """Checks signatures, each (digest, signature, signer) once. capacity: answers remembered.

    done: how many recoveries it has computed.
    """

    def __init__(self, capacity: int = 65_536):
        self._known: OrderedDict[tuple[bytes, bytes], bytes | None] = OrderedDict()
        self._capacity = capacity
        self.done = 0

    def __call__(self, message: bytes, signature: bytes, node_id: bytes) -> str | None:
        """None where `node_id` signed the digest, else the reason for refusing."""
        reason = refusal(signature)
        if reason is not None:
            return reason
        key = (message, signature)
        if key not in self._known:
            self.done += 1
            self._note(key, recover(message, signature))
        return None if self._known[key] == node_id else "forged"

    def made(self, message: bytes, signature: bytes, node_id: bytes) -> None:
        """Whoever shares this object signed so itself: nobody needs to recover it."""
        self._note((message, signature), node_id)

    def _note(self, key: tuple[bytes, bytes], node_id: bytes | None) -> None:
        self._known[key] = node_id
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)


def _address(public) -> bytes:
    return _address_of(public.format(compressed=False)[1:])


@lru_cache(maxsize=4096)  # the same few servers sign again and again
def _address_of(coordinates: bytes) -> bytes:
    from Crypto.Hash import keccak

    return keccak.new(digest_bits=256, data=coordinates).digest()[-NODE_ID_BYTES:]
