"""Clique: authorities sign blocks in turn; who is not in turn may, a little later.

Source: EIP-225, "Clique proof-of-authority consensus protocol" (turns, weights 2 and 1, signing
once in floor(n/2) + 1 blocks); a block counts here once so many others are on top of it.
"""

from __future__ import annotations

from consensus.baselines._blocktree import Block, Tree
from consensus.baselines._replica import ALL, Gossiping, size_of
from consensus.identity import Key, SignatureCheck, digest

HEADER = 150  # bytes of a block besides its batch


class Clique(Gossiping):
    """One authority. keys: of all of them. period: ticks between blocks (> 0)."""

    def __init__(self, id: int, servers: int, keys: tuple[Key, ...], period: int = 2):
        super().__init__(id, servers)
        self.tree = Tree()
        self._key, self._nodes = keys[id], tuple(key.node_id for key in keys)
        self._check, self._period, self._waited = SignatureCheck(), period, 0

    @property
    def depth(self) -> int:
        """Blocks on top of one that counts: with them a majority has signed its branch."""
        return self.servers // 2

    @property
    def leader(self) -> int:
        return (self.tree.height(self.tree.tip) + 1) % self.servers

    def tick(self) -> None:
        """Sign when it is one's turn, or when those before one have been silent."""
        open_ = self.tree.missing(self.pool)
        if not open_ and not self.tree.branch(self.tree.confirmed):
            self._waited = 0
            return
        self._waited += 1
        late = (self.id - self.leader) % self.servers
        if self._waited < self._period + late or self._recent(self.tree.tip, self.id):
            return
        tip = self.tree.tip
        block = Block(tip, self.tree.height(tip) + 1, self.id, 2 if late == 0 else 1, open_)
        block = block._replace(proof=self._key.sign(_told(block, self._key.node_id)))
        self.send(ALL, "block", block, size=HEADER + size_of(open_))
        self.on_block(self.id, block)

    def on_block(self, sender: int, block: Block) -> None:
        """A signed block of an authority that may sign it."""
        node = self._nodes[block.author]
        turn = block.height % self.servers == block.author
        if block.weight != (2 if turn else 1) or self._recent(block.parent, block.author):
            return
        if self._check(_told(block, node), block.proof, node) is not None:
            return
        if not self.tree.add(block):
            self.send(sender, "want", block.parent, size=40)
        self._waited = 0
        for buried in self.tree.bury(self.depth):
            self.deliver(buried.batch)

    def on_want(self, sender: int, name: bytes) -> None:
        """A server misses a block."""
        if name in self.tree.blocks:
            block = self.tree.blocks[name]
            self.send(sender, "block", block, size=HEADER + size_of(block.batch))

    def _recent(self, name: bytes, author: int) -> bool:
        """Whether `author` signed one of the last floor(n/2) blocks up to `name`."""
        for _ in range(self.servers // 2):
            block = self.tree.blocks.get(name)
            if block is None:
                return False
            if block.author == author:
                return True
            name = block.parent
        return False


def _told(block: Block, node: bytes) -> bytes:
    return digest("fedalign/clique/v1", 0, block.height, 0, node, block.content)
