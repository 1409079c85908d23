"""Told: what a block says of the round before it; its facts hold the hash, its record the words.

Paper: none; our derivation (block t+1 records the model and the clients' payments of round t).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256

from consensus.chain.settlement import Settlement
from consensus.encoding import pack, unpack
from consensus.identity import Key
from fedalign.core.agreement import Sealed
from fedalign.core.errors import DataError
from fedalign.core.seeds import Seeds


@dataclass(frozen=True)
class Told:
    """model: 32 bytes, the digest of the model that the round starts from. claims: (round, Merkle
    root, entries, total) of what clients may claim. clock_ms: simulated, >= 0."""

    model: bytes
    claims: tuple[int, bytes, int, int]
    clock_ms: int

    @staticmethod
    def of(sealed: Sealed, height: int, wallet: Callable[[int], bytes]) -> Told:
        """For the block at `height`; the payments are those of the round before."""
        settlement = Settlement.of(height - 1, sealed.payments, wallet)
        claims = settlement.claims if settlement.accounts else Settlement(0, (), ()).claims
        return Told(sealed.model, claims, round(1000 * sealed.clock_s))

    def encode(self) -> bytes:
        return pack((self.model, self.claims, self.clock_ms))

    @staticmethod
    def decode(data: bytes) -> Told:
        """Raises DataError."""
        try:
            model, (number, root, entries, total), clock_ms = unpack(data)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"A block says of the round before it what nobody reads: {error}."
            ) from error
        return Told(model, (number, root, entries, total), clock_ms)

    @property
    def digest(self) -> bytes:
        """32 bytes, which the block's facts hold."""
        return sha256(self.encode()).digest()


def wallets(seeds: Seeds) -> Callable[[int], bytes]:
    """Every client's 20-byte account on a simulated chain; `client_key` signs for it."""

    @cache
    def wallet(client: int) -> bytes:
        return client_key(seeds, client).node_id

    return wallet


def client_key(seeds: Seeds, client: int) -> Key:
    """The key of a client's account."""
    return Key(seeds.key("client_key", client=client))
