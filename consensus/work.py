"""Work: how many signatures and hashes this process has made: clocks that count work, not time.

Paper: none; our derivation (the operations that Castro, Liskov, OSDI 1999, Section 7, count).
"""

from __future__ import annotations

import hashlib


class Work:
    """signatures: made, and recovered from; answers that are remembered cost nothing. hashes:
    SHA-256 of messages, entries, chunks and blocks, whatever their length. Both only grow; servers
    in one process share them, and count once what they share."""

    __slots__ = ("hashes", "signatures")

    def __init__(self) -> None:
        self.signatures = self.hashes = 0


DONE = Work()


def sha256(data: bytes) -> bytes:
    """The digest, counted."""
    DONE.hashes += 1
    return hashlib.sha256(data).digest()
