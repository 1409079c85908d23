"""Member: one server's part in a chain of transactions whose blocks are ordered by a log.

Transactions, blocks and FINAL messages all go through the log; what follows from it is the same on
every server. A restarted one reads the log again, from its beginning or from a dump of its state.
No I/O beyond the node's database.

Paper: Ongaro, Ousterhout, "In Search of an Understandable Consensus Algorithm", USENIX ATC 2014
(replicated state machines); blocks sealed by their members are our derivation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from consensus.chain.node import ChainNode
from consensus.chain.pool import Pool
from consensus.chain.seal import BlockSeal, lead, leads
from consensus.encoding import decode, encode
from consensus.identity import Key
from consensus.pofel import merkle
from consensus.pofel.messages import Entry, Final, Kind, at_most, exactly, uint
from consensus.pofel.seal import Seal
from fedalign.core.errors import ConfigError, DataError, FedalignError, IntegrityError

TRANSACTION, BLOCK, FINAL = b"transaction", b"block", b"final"
AGAIN_S = 1.0  # how long a wish may take before it is uttered again


@dataclass(frozen=True)
class Candidate:
    """A block that waits for its seal. leaves: how much evidence it covers."""

    payload: bytes
    number: int
    header_hash: bytes
    leader: bytes
    leaves: int


class Member:
    """Applies an ordered log to `node`, and says what `key`'s owner wants ordered.

    interval_s: longest time between two blocks, > 0; waiting transactions are sealed at once.
    clock: Unix seconds.
    """

    def __init__(
        self,
        node: ChainNode,
        key: Key,
        interval_s: float = 5.0,
        clock: Callable[[], float] = time.time,
    ):
        if interval_s <= 0:
            raise ConfigError(f"Blocks come in intervals above 0 s, got {interval_s}.")
        self.node, self.key, self.pool = node, key, Pool(node)
        self._interval_s, self._clock = interval_s, clock
        self._height = 0  # of the log as far as it has been read; the node may be ahead
        self._leaves: list[bytes] = []
        self._candidate: Candidate | None = None
        self._finals: dict[bytes, Entry] = {}
        self._said: dict[bytes, float] = {}
        self._outbox: dict[bytes, float] = {}  # items of ours, and when they were uttered

    # ------------------------------------------------------------ the log

    def apply(self, data: bytes) -> str | None:
        """The next item of the log; why it changed nothing, or None. Never raises for bad items."""
        try:
            kind, *rest = _fields(data)
            if kind == TRANSACTION:
                return self._transaction(data, *rest)
            if kind == BLOCK:
                return self._block(*rest)
            return self._final(*rest)
        except (DataError, IntegrityError, TypeError) as error:
            return str(error)

    def _transaction(self, data: bytes, raw: bytes) -> str | None:
        self._leaves.append(merkle.leaf(data))
        self._outbox.pop(data, None)
        try:
            self.pool.add(raw)
        except FedalignError as error:
            return str(error)
        return None

    def _block(self, leader: bytes, leaves: int, payload: bytes) -> str | None:
        if self._candidate is not None:
            return "another block waits for its seal"
        header = self.node.decode(payload).header
        candidate = Candidate(payload, header.block_number, header.hash, leader, leaves)
        if candidate.number != self._height + 1:
            return f"block {candidate.number} does not follow block {self._height}"
        if candidate.number <= self.node.height:  # read again after a restart
            if self.node.header_at(candidate.number).hash != header.hash:
                return "another block was sealed at this height"
        elif reason := self._refusal(candidate, header):
            return reason
        self._candidate, self._finals = candidate, {}
        return None

    def _refusal(self, candidate: Candidate, header) -> str | None:
        """Why a new block is not worth a signature."""
        if header.coinbase not in self.node.members_at(self.node.head):
            return "its author is no member"
        chain_id, number = self.node.genesis.chain_id, candidate.number
        if not leads(candidate.leader, header.coinbase, chain_id, number, 0, header.hash):
            return "its author did not sign it"
        if not 0 <= candidate.leaves <= len(self._leaves):
            return "it claims evidence that is not there"
        if header.extra_data != merkle.root(self._leaves[: candidate.leaves]):
            return "its evidence root is another one"
        self.node.preview(candidate.payload)
        return None

    def _final(self, data: bytes) -> str | None:
        entry, waiting = Entry.decode(data), self._candidate
        if waiting is None:
            return "no block waits for a seal"
        place = (entry.kind, entry.chain_id, entry.round, entry.view, entry.body)
        told = Final(0, waiting.header_hash).encode()
        if place != (Kind.FINAL, self.node.genesis.chain_id, waiting.number, 0, told):
            return "it is over another block"
        members = self.node.members_at(self.node.header_at(waiting.number - 1))
        if entry.sender not in members or entry.sender in self._finals:
            return "its sender is no member, or has signed before"
        if self.node.check(entry.digest, entry.signature, entry.sender):
            return "its signature is forged"
        self._finals[entry.sender] = entry
        if len(self._finals) >= self.node.genesis.needs(len(members)):
            self._seal(waiting)
        return None

    def _seal(self, sealed: Candidate) -> None:
        if sealed.number > self.node.height:
            finals = Seal(tuple(self._finals.values()))
            seal = BlockSeal(sealed.number, 0, sealed.leader, finals)
            self.node.import_final(sealed.payload, seal)
        block = self.node.block(sealed.number)
        self.pool.forget([transaction.encode() for transaction in block.transactions])
        del self._leaves[: sealed.leaves]
        self._height, self._candidate, self._finals = sealed.number, None, {}

    # ------------------------------------------------------------ its state

    def dump(self) -> bytes:
        """What the log so far has left besides sealed blocks; the same on every server that read
        as far, but for the order in which transactions wait."""
        waiting = self._candidate
        candidate = [] if waiting is None else [*vars(waiting).values()]
        finals = [final.encode() for final in self._finals.values()]
        return encode([self._height, self._leaves, candidate, finals, self.pool.waiting()])

    def load(self, dump: bytes) -> None:
        """Go on from there; the node must have the blocks. Raises DataError for other bytes."""
        height, leaves, candidate, finals, waiting = _parts(dump)
        if self.node.height < uint(64)(height):
            raise DataError(
                f"The state is of block {uint(64)(height)}, the chain here ends with block "
                f"{self.node.height}: fetch the blocks first."
            )
        self._height, self._leaves = uint(64)(height), list(leaves)
        self._candidate = _candidate(*candidate) if candidate else None
        told = [Entry.decode(final) for final in finals]
        self._finals = {final.sender: final for final in told}
        self.pool = Pool(self.node)
        for raw in waiting:
            with suppress(FedalignError):  # a later block holds it already
                self.pool.add(raw)

    # ------------------------------------------------------------ wishes

    def hand_in(self, raw: bytes) -> None:
        """Have a signed transaction ordered; it is uttered until the log holds it."""
        self._outbox.setdefault(encode([TRANSACTION, raw]), float("-inf"))

    def wishes(self, leads_order: bool) -> list[bytes]:
        """What to have ordered now. leads_order: whether this server leads the log at present."""
        if self._height < self.node.height:
            return []  # still reading
        now = self._clock()
        late = [item for item, said in self._outbox.items() if now >= said + AGAIN_S]
        self._outbox.update(dict.fromkeys(late, now))
        return late + self._about_blocks(leads_order, now)

    def _about_blocks(self, leads_order: bool, now: float) -> list[bytes]:
        waiting = self._candidate
        if waiting is not None:
            if self.key.node_id in self._finals or not self._due(waiting.header_hash, now):
                return []
            final = Final(0, waiting.header_hash)
            entry = Entry.sign(self.key, self.node.genesis.chain_id, waiting.number, final)
            self.node.check.made(entry.digest, entry.signature, entry.sender)
            return [encode([FINAL, entry.encode()])]
        late = now >= self.node.head.timestamp + self._interval_s
        if leads_order and (len(self.pool) or late) and self._due(self.node.head.hash, now):
            return [self._proposal(now)]
        return []

    def _due(self, name: bytes, now: float) -> bool:
        """Whether something should be said (again)."""
        if now < self._said.get(name, float("-inf")) + AGAIN_S:
            return False
        self._said = {name: now}
        return True

    def _proposal(self, now: float) -> bytes:
        node, leaves = self.node, len(self._leaves)
        time_s = max(node.head.timestamp + 1, int(now))
        place = (self.key.node_id, time_s, merkle.root(self._leaves))
        payload = node.build(*place, node.fitting(*place, self.pool.waiting()))
        header = node.decode(payload).header
        where = (node.genesis.chain_id, header.block_number, 0, header.hash)
        leader = lead(self.key, *where, node.check)
        return encode([BLOCK, leader, leaves, payload])


def height_in(dump: bytes) -> int:
    """The last block that a dumped state builds on."""
    return uint(64)(_parts(dump)[0])


def _parts(dump: bytes) -> tuple:
    parts = decode(dump)
    if not isinstance(parts, tuple) or len(parts) != 5:
        raise DataError(f"{len(dump)} bytes hold no member's state.")
    return parts


def _candidate(payload, number, header_hash, leader, leaves) -> Candidate:
    return Candidate(payload, uint(64)(number), header_hash, leader, uint(32)(leaves))


def _fields(data: bytes) -> tuple:
    """The kind of an item and its fields; raises DataError."""
    shapes = {
        TRANSACTION: (at_most(1 << 20),),
        BLOCK: (exactly(65), uint(32), at_most(8 << 20)),
        FINAL: (at_most(1024),),
    }
    items = decode(data)
    if not isinstance(items, tuple) or not items or items[0] not in shapes:
        raise DataError("An item of the log is a transaction, a block or a FINAL message.")
    shape = shapes[items[0]]
    if len(items) != len(shape) + 1:
        raise DataError(f"A {items[0].decode()} has {len(shape)} fields.")
    return items[0], *(read(item) for read, item in zip(shape, items[1:], strict=True))
