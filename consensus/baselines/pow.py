"""Proof of work: whoever finds a hash below the target writes; the longest branch counts.

Paper: Nakamoto, "Bitcoin: A Peer-to-Peer Electronic Cash System", 2008, Sections 4, 5 and 11.
"""

from __future__ import annotations

import numpy as np

from consensus.baselines._blocktree import Block, Tree
from consensus.baselines._replica import ALL, Gossiping, size_of
from consensus.work import sha256

HEADER = 80


class ProofOfWork(Gossiping):
    """One miner. rng: when it finds a block. interval: mean ticks between blocks of all together
    (> 0). bits: of work that a block shows and everybody checks. depth: blocks on top of one that
    counts.

    Miners of a simulated clock need not burn its hashes: when the next block is found is drawn
    from the exponential distribution that hashing has; `bits` of real work make it checkable.
    """

    def __init__(
        self, id: int, servers: int, rng: np.random.Generator, interval: float = 200.0,
        bits: int = 8, depth: int = 6,
    ):  # fmt: skip
        super().__init__(id, servers)
        self.tree, self.depth, self.hashes = Tree(), depth, 0
        self._rng, self._bits, self._mean, self._now = rng, bits, interval * servers, 0
        self._found = self._draw()

    @property
    def leader(self) -> int:
        """The miner of the last block: nobody knows the next one."""
        tip = self.tree.blocks.get(self.tree.tip)
        return 0 if tip is None else tip.author

    def tick(self) -> None:
        """Hashing goes on whether or not there is something to order."""
        self._now += 1
        if self._now < self._found:
            return
        self._found = self._draw()
        open_, tip = self.tree.missing(self.pool), self.tree.tip
        block = self._mined(Block(tip, self.tree.height(tip) + 1, self.id, 1, open_))
        self.send(ALL, "block", block, size=HEADER + size_of(open_))
        self.on_block(self.id, block)

    def on_block(self, sender: int, block: Block) -> None:
        """A block that shows its work."""
        if block.weight != 1 or not _below(block, self._bits):
            return
        if not self.tree.add(block):
            self.send(sender, "want", block.parent, size=40)
        for buried in self.tree.bury(self.depth):
            self.deliver(buried.batch)

    def on_want(self, sender: int, name: bytes) -> None:
        """A server misses a block."""
        if name in self.tree.blocks:
            block = self.tree.blocks[name]
            self.send(sender, "block", block, size=HEADER + size_of(block.batch))

    def _draw(self) -> float:
        return self._now + self._rng.exponential(self._mean)

    def _mined(self, block: Block) -> Block:
        nonce = 0
        while True:
            found = block._replace(proof=nonce.to_bytes(8, "big"))
            self.hashes += 1
            if _below(found, self._bits):
                return found
            nonce += 1


def _below(block: Block, bits: int) -> bool:
    """SHA-256 twice, as a number, has `bits` leading zeros."""
    twice = sha256(sha256(block.content + block.proof))
    return int.from_bytes(twice, "big") >> (256 - bits) == 0
