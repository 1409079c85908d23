"""Payload: an update as bytes that every server can hash, keep and read back.

Paper: none; our derivation (quantised values as little-endian int32 in chunks of one Merkle tree).
"""

from __future__ import annotations

import numpy as np

from consensus.pofel import merkle
from fedalign.core.errors import ConfigError, DataError

HEADER = b"fedalign/update/v1"


def to_bytes(values: np.ndarray, s: int) -> bytes:
    """Integers (d,) at scale s -> header ‖ s:u8 ‖ d:u64 ‖ int32 values."""
    if len(values) and int(np.abs(values).max()) >= 2**31:
        raise ConfigError("A value of the update does not fit 32 bits: lower the scale s.")
    head = HEADER + s.to_bytes(1, "big") + len(values).to_bytes(8, "big")
    return head + values.astype("<i4").tobytes()


def from_bytes(data: bytes) -> tuple[np.ndarray, int]:
    """The inverse: (int64 values, s). Raises DataError."""
    start = len(HEADER) + 9
    if data[: len(HEADER)] != HEADER or len(data) < start:
        raise DataError("These bytes are no update: the header is missing.")
    s, size = data[len(HEADER)], int.from_bytes(data[len(HEADER) + 1 : start], "big")
    if len(data) != start + 4 * size or s > 40:
        raise DataError(
            f"An update of {size} values at scale {s} has {start + 4 * size} bytes and a scale of "
            f"at most 40, got {len(data)} bytes."
        )
    return np.frombuffer(data, dtype="<i4", offset=start).astype(np.int64), s


def root(values: np.ndarray, s: int) -> bytes:
    """The Merkle root of the update's bytes: what is committed to and what a block seals."""
    return merkle.root_of(to_bytes(values, s))
