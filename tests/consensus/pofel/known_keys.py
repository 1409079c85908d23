"""Keys that tests share: server i's secret is SHA-256 of its number."""

import hashlib

from consensus.identity import Key


def key(i: int) -> Key:
    return Key(hashlib.sha256(b"test server %d" % i).digest())
