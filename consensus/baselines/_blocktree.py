"""Block tree: blocks that name their parent, the heaviest branch, and how deep it is buried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from consensus.baselines._replica import Batch, digest_of
from consensus.work import sha256

GENESIS = bytes(32)


class Block(NamedTuple):
    """weight: what it adds to its branch. proof: a signature, or a nonce that took work."""

    parent: bytes
    height: int
    author: int
    weight: int
    batch: Batch
    proof: bytes = b""

    @property
    def content(self) -> bytes:
        """What the proof is about."""
        return digest_of(self.batch, self.height, self.author, self.weight) + self.parent

    @property
    def hash(self) -> bytes:
        return sha256(self.content + self.proof)


class Tree:
    """Blocks seen by one server. forks: blocks at a height that had one already; reorganised: the
    most blocks that a change of branch took back; reverted: how often that took back a block that
    counted as confirmed."""

    def __init__(self) -> None:
        self.blocks: dict[bytes, Block] = {}
        self._weights = {GENESIS: 0}
        self._orphans: dict[bytes, list[Block]] = {}
        self._heights: dict[int, int] = {}
        self.tip, self.confirmed = GENESIS, GENESIS
        self.forks = self.reorganised = self.reverted = 0

    def height(self, name: bytes) -> int:
        return self.blocks[name].height if name in self.blocks else 0

    def add(self, block: Block) -> bool:
        """Whether the block has a place in the tree; without its parent it waits for it."""
        if block.hash in self.blocks:
            return True
        if block.parent not in self._weights or block.height != self.height(block.parent) + 1:
            self._orphans.setdefault(block.parent, []).append(block)
            return False
        name = block.hash
        self.blocks[name] = block
        self._weights[name] = self._weights[block.parent] + block.weight
        self.forks += self._heights.get(block.height, 0)
        self._heights[block.height] = 1
        self._choose(name)
        for orphan in self._orphans.pop(name, ()):
            self.add(orphan)
        return True

    def _choose(self, name: bytes) -> None:
        """The heaviest branch; of equal ones the first that was seen."""
        if self._weights[name] <= self._weights[self.tip]:
            return
        old, self.tip = self.tip, name
        lost = 0
        while not self._above(old, name):
            lost, old = lost + 1, self.blocks[old].parent
        self.reorganised = max(self.reorganised, lost)

    def _above(self, old: bytes, name: bytes) -> bool:
        """Whether `old` is `name` or one of its ancestors."""
        while self.height(name) > self.height(old):
            name = self.blocks[name].parent
        return name == old

    def branch(self, after: bytes = GENESIS) -> list[Block]:
        """Blocks of the chosen branch that follow `after`, in order."""
        found, name = [], self.tip
        while name not in (after, GENESIS):
            found.append(self.blocks[name])
            name = self.blocks[name].parent
        return found[::-1]

    def missing(self, pool: Mapping[bytes, bytes]) -> Batch:
        """What of a pool (digest -> entry) the chosen branch does not hold yet."""
        held = {sha256(data) for b in self.branch(self.confirmed) for data in b.batch}
        return tuple(data for name, data in pool.items() if name not in held)

    def bury(self, depth: int) -> list[Block]:
        """Blocks that now have `depth` others on top and had not before."""
        if not self._above(self.confirmed, self.tip):
            self.reverted += 1
            self.confirmed = GENESIS
        fresh = self.branch(self.confirmed)
        fresh = fresh[: max(0, len(fresh) - depth)]
        if fresh:
            self.confirmed = fresh[-1].hash
        return fresh
