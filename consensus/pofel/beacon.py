"""Beacon: a number nobody could know before the models were revealed.

Paper: none; our derivation (a hash chain over the revealed nonces; a coalition of b servers that
withholds reveals picks among 2^b values and pays a strike for each).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from consensus.work import sha256
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import derive

DOMAIN = b"fedalign/beacon"
GENESIS = sha256(DOMAIN)


def advance(previous: bytes, nonces: Iterable[bytes]) -> bytes:
    """SHA256("fedalign/beacon" ‖ beacon of the round before ‖ the revealed nonces, sorted)."""
    return sha256(DOMAIN + previous + b"".join(sorted(nonces)))


def ticket(beacon: bytes, node_id: bytes) -> bytes:
    """What breaks ties in this round: the smaller goes first."""
    return sha256(beacon + node_id)


def coordinates(beacon: bytes, columns: int, share_ppm: int) -> np.ndarray:
    """Sorted indices of ceil(share · columns) coordinates; integers and SHAKE-256 only."""
    if not 0 < share_ppm <= 1_000_000:
        raise ConfigError(f"A share of coordinates is 1 .. 1000000 ppm, got {share_ppm}.")
    count = -(-share_ppm * columns // 1_000_000)
    stream = hashlib.shake_256(b"fedalign/beacon/coordinates" + beacon).digest(8 * columns)
    order = np.argsort(np.frombuffer(stream, dtype="<u8"), kind="stable")
    return np.sort(order[:count])


def draws(beacon: bytes, purpose: str) -> np.random.Generator:
    """The generator that rules inside consensus draw from."""
    return derive(beacon, "beacon", purpose)
