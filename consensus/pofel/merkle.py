"""Merkle: one hash for many chunks, and short proofs that a chunk belongs to it.

Paper: Laurie, Langley, Kasper, "Certificate Transparency", RFC 6962, Section 2.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from consensus.work import DONE, sha256
from fedalign.core.errors import ConfigError

CHUNK_BYTES = 1 << 20


def leaf(data: bytes | memoryview) -> bytes:
    """SHA256(0x00 ‖ data)."""
    DONE.hashes += 1
    total = hashlib.sha256(b"\0")
    total.update(data)
    return total.digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Leaf hashes -> 32 bytes; of none: SHA256 of nothing.

    The left subtree is the largest power of two below the count, so no leaf is counted twice.
    """
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    cut = _split(len(leaves))
    return _node(root(leaves[:cut]), root(leaves[cut:]))


def root_of(data: bytes | memoryview, chunk: int = CHUNK_BYTES) -> bytes:
    """The root over `data` cut into chunks."""
    return root([leaf(part) for part in chunks(data, chunk)])


def chunks(data: bytes | memoryview, chunk: int = CHUNK_BYTES) -> Iterator[memoryview]:
    """`data` in pieces of `chunk` bytes, the last one shorter; at least one piece."""
    view = memoryview(data).cast("B")
    for start in range(0, max(len(view), 1), chunk):
        yield view[start : start + chunk]


def proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The sibling hashes on the way from leaf `index` up to the root."""
    if len(leaves) <= 1:
        return ()
    cut = _split(len(leaves))
    if index < cut:
        return (*proof(leaves[:cut], index), root(leaves[cut:]))
    return (*proof(leaves[cut:], index - cut), root(leaves[:cut]))


def proves(root_: bytes, leaf_: bytes, index: int, count: int, path: Sequence[bytes]) -> bool:
    """Whether `path` leads from leaf `index` of `count` to the root."""
    if not 0 <= index < count or len(path) > 64:
        return False
    found = _climb(leaf_, index, count, list(path))
    return found == root_


def _climb(leaf_: bytes, index: int, count: int, path: list[bytes]) -> bytes | None:
    if count == 1:
        return leaf_ if not path else None
    if not path:
        return None
    cut, sibling = _split(count), path.pop()
    if index < cut:
        below = _climb(leaf_, index, cut, path)
        return None if below is None else _node(below, sibling)
    below = _climb(leaf_, index - cut, count - cut, path)
    return None if below is None else _node(sibling, below)


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right)


class Tree:
    """Every level of the tree over `leaves` (at least one), so that a proof costs log n hashes."""

    def __init__(self, leaves: Sequence[bytes]):
        if not leaves:
            raise ConfigError("A Merkle tree with proofs needs at least one leaf.")
        level = list(leaves)
        self._levels = [level]
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=False)
            odd = level[-1:] if len(level) % 2 else []  # goes up alone, it is not doubled
            level = [_node(left, right) for left, right in pairs] + odd
            self._levels.append(level)

    @property
    def root(self) -> bytes:
        return self._levels[-1][0]

    def proof(self, index: int) -> tuple[bytes, ...]:
        """The sibling hashes on the way from leaf `index` up to the root."""
        path = []
        for level in self._levels[:-1]:
            if index ^ 1 < len(level):
                path.append(level[index ^ 1])
            index >>= 1
        return tuple(path)
