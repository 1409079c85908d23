"""Round blocks: the EVM part of the block that a round's leader proposes and the others check.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (the leader packs the round into a block); one
settling call in front of all other transactions is our derivation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from consensus.chain.genesis import ADDRESSES
from consensus.chain.node import ChainNode
from consensus.chain.pool import Pool
from consensus.chain.record import RoundRecord
from consensus.chain.seal import BlockSeal, lead
from consensus.chain.transactions import signed
from consensus.identity import Key
from consensus.pofel.messages import Block, Entry
from consensus.pofel.outcome import Outcome
from consensus.pofel.seal import Seal
from fedalign.core.errors import ConfigError, DataError, IntegrityError

RecordOf = Callable[[Block, Outcome, bytes], RoundRecord]
"""(block, outcome, author) -> what the block must settle; the same on every server."""


class RoundBlocks:
    """`node`'s side of a round. `refusal` is the machine's check of payloads."""

    def __init__(self, node: ChainNode, record_of: RecordOf):
        self.node, self.record_of = node, record_of
        self.pool = Pool(node)

    def fill(self, block: Block, outcome: Outcome, author: Key) -> Block:
        """The proposal with its EVM block: the settling call, then what waits in the pool."""
        node = self.node
        record = self.record_of(block, outcome, author.node_id)
        with node.lock:
            settle = signed(
                author,
                chain_id=node.genesis.chain_id,
                nonce=node.state().get_nonce(author.node_id),
                to=ADDRESSES["Rounds"],
                data=record.call(),
            )
            place = (author.node_id, block.time_s, block.evidence_root)
            payload = node.build(*place, node.fitting(*place, [settle, *self.pool.waiting()]))
            header = node.decode(payload).header
        return replace(block, payload=payload, header_hash=header.hash)

    def refusal(self, block: Block, outcome: Outcome, author: bytes) -> str | None:
        """Why the EVM part of a proposal is refused, or None."""
        try:
            inside = self.node.decode(block.payload)
        except DataError:
            return "malformed"
        header = inside.header
        said = (header.block_number, header.parent_hash, header.timestamp, header.extra_data)
        if (*said, header.coinbase, header.hash) != (
            block.height, block.parent, block.time_s, block.evidence_root, author,
            block.header_hash,
        ):  # fmt: skip
            return "wrong_header"
        record = self.record_of(block, outcome, author)
        if not inside.transactions or not _settles(inside.transactions[0], record, author):
            return "wrong_settlement"
        try:
            receipts = self.node.outcome_of(block.payload)
        except (DataError, IntegrityError):
            return "wrong_state"
        told = [log.address for receipt in receipts for log in receipt.logs]
        if receipts[0].state_root != b"\x01" or told.count(ADDRESSES["Rounds"]) != 1:
            return "wrong_settlement"  # it failed, or somebody settled another round besides
        return None

    def lead(self, block: Block, author: Key, round_: int, rank: int) -> bytes:
        """The author's own signature, which the seal carries."""
        return lead(author, self.node.genesis.chain_id, round_, rank, block.header_hash)

    def keep(
        self,
        block: Block,
        *,
        round_: int,
        rank: int,
        leader: bytes,
        finals: Sequence[Entry],
        extra: dict[bytes, bytes] | None = None,
    ) -> None:
        """Import the block once a quorum's FINAL messages are there.

        leader: the author's signature. extra: kept in the same transaction, such as how far the
        orderer's log has been applied. Raises IntegrityError where the seal does not hold.
        """
        needs = self.node.genesis.needs(len(self.node.members_at(self.node.head)))
        if len(finals) < needs:
            raise ConfigError(f"{needs} FINAL messages seal a block, got {len(finals)}.")
        seal = BlockSeal(round_, rank, leader, Seal(tuple(finals)))
        self.node.import_final(block.payload, seal, extra)
        self.pool.forget([tx.encode() for tx in self.node.decode(block.payload).transactions])


def _settles(transaction, record: RoundRecord, author: bytes) -> bool:
    """Whether this is the author's call that records exactly this round."""
    return (
        transaction.sender == author
        and transaction.to == ADDRESSES["Rounds"]
        and transaction.data == record.call()
    )
