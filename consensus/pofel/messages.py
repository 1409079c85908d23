"""Messages: what servers say to each other in a round, each one signed and of one exact form.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (commit, reveal, vote); availability, committed
votes, marks and fraud proofs are our derivation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, ClassVar

from consensus.encoding import Item, decode, encode, to_int
from consensus.identity import NODE_ID_BYTES, Key, digest
from fedalign.core.errors import DataError

Reader = Callable[[Item], Any]
MAX_MEMBERS = 128


def exactly(size: int) -> Reader:
    """Bytes of this length."""
    return lambda item: _bytes(item, size, size)


def at_most(size: int) -> Reader:
    """Bytes up to this length."""
    return lambda item: _bytes(item, 0, size)


def uint(bits: int) -> Reader:
    """A non-negative integer below 2^bits."""
    return lambda item: to_int(item, bits)


def many(reader: Reader, most: int = MAX_MEMBERS) -> Reader:
    """A list of at most `most` items."""

    def read(item: Item) -> tuple:
        if not isinstance(item, tuple) or len(item) > most:
            raise DataError(f"A list of at most {most} items was asked for.")
        return tuple(map(reader, item))

    return read


def _bytes(item: Item, least: int, most: int) -> bytes:
    if not isinstance(item, bytes) or not least <= len(item) <= most:
        raise DataError(f"Bytes of length {least} .. {most} were asked for.")
    return item


class Kind(Enum):
    """Message types; the value is part of the signed domain."""

    COMMIT = "commit"
    REVEAL = "reveal"
    AVAIL = "avail"
    VOTE_COMMIT = "vote_commit"
    VOTE = "vote"
    MARK = "mark"
    BLOCK = "block"
    FINAL = "final"
    FRAUD = "fraud"

    @property
    def domain(self) -> str:
        return f"fedalign/pofel/{self.value}/signed/v1"


class Body:
    """A message's content: a frozen dataclass whose SHAPE reads its fields, in order."""

    KIND: ClassVar[Kind]
    SHAPE: ClassVar[tuple[Reader, ...]]

    def encode(self) -> bytes:
        return encode([getattr(self, name) for name in self.__dataclass_fields__])

    @classmethod
    def parse(cls, data: bytes):
        """The body these bytes spell; raises DataError where they spell none."""
        items = decode(data)
        if not isinstance(items, tuple) or len(items) != len(cls.SHAPE):
            raise DataError(f"A {cls.KIND.value} has {len(cls.SHAPE)} fields.")
        return cls(*(read(item) for read, item in zip(cls.SHAPE, items, strict=True)))


@dataclass(frozen=True)
class Commit(Body):
    """commitment: 32 bytes, zeros from a live server without a model. size: its samples, 0 then.
    parent: hash of the last final block. time_s: the server's clock, Unix seconds."""

    KIND, SHAPE = Kind.COMMIT, (exactly(32), uint(64), exactly(32), uint(64))
    commitment: bytes
    size: int
    parent: bytes
    time_s: int


@dataclass(frozen=True)
class Reveal(Body):
    """Opens a commitment. chunks, length: of the model's bytes; layout: hash of names and shapes."""

    KIND = Kind.REVEAL
    SHAPE = (exactly(32), exactly(32), uint(32), uint(64), at_most(16), exactly(32))
    model_root: bytes
    nonce: bytes
    chunks: int
    length: int
    dtype: bytes
    layout: bytes


@dataclass(frozen=True)
class Avail(Body):
    """The model roots that the sender has fetched and verified."""

    KIND, SHAPE = Kind.AVAIL, (many(exactly(32)),)
    roots: tuple[bytes, ...]


@dataclass(frozen=True)
class VoteCommit(Body):
    """The hash of a vote."""

    KIND, SHAPE = Kind.VOTE_COMMIT, (exactly(32),)
    commitment: bytes


@dataclass(frozen=True)
class Vote(Body):
    """choice: position among the members. prediction_ppm: of every member's votes."""

    KIND, SHAPE = Kind.VOTE, (uint(16), many(uint(32)), exactly(32))
    choice: int
    prediction_ppm: tuple[int, ...]
    nonce: bytes


@dataclass(frozen=True)
class Mark(Body):
    """The end of a phase. timeout: 0 says that everything expected is there."""

    KIND, SHAPE = Kind.MARK, (uint(8), uint(32), uint(1))
    phase: int
    rank: int
    timeout: int


@dataclass(frozen=True)
class Block(Body):
    """What the leader proposes. facts: the packed outcome. payload: the EVM block, may be empty."""

    KIND = Kind.BLOCK
    SHAPE = (uint(64), exactly(32), uint(64), exactly(32), at_most(1 << 20), exactly(32),
             at_most(8 << 20))  # fmt: skip
    height: int
    parent: bytes
    time_s: int
    evidence_root: bytes
    facts: bytes
    header_hash: bytes
    payload: bytes = b""


@dataclass(frozen=True)
class Final(Body):
    """The signer has checked this block and found it valid."""

    KIND, SHAPE = Kind.FINAL, (uint(32), exactly(32))
    rank: int
    header_hash: bytes


@dataclass(frozen=True)
class Fraud(Body):
    """Two entries that no honest server signs together."""

    KIND, SHAPE = Kind.FRAUD, (at_most(16 << 20), at_most(16 << 20))
    first: bytes
    second: bytes


BODIES = {cls.KIND: cls for cls in (Commit, Reveal, Avail, VoteCommit, Vote, Mark, Block, Final, Fraud)}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A signed message. round: the chain's round. view: rank for marks and blocks, otherwise 0."""

    kind: Kind
    chain_id: int
    round: int
    view: int
    sender: bytes
    body: bytes
    signature: bytes

    @cached_property
    def digest(self) -> bytes:
        """The 32 bytes that are signed."""
        where = (self.chain_id, self.round, self.view)
        return digest(self.kind.domain, *where, self.sender, self.body)

    @cached_property
    def content(self) -> Body:
        """The parsed body; raises DataError where it has not its kind's form."""
        return BODIES[self.kind].parse(self.body)

    def encode(self) -> bytes:
        return encode([self.kind.value.encode(), self.chain_id, self.round, self.view, self.sender,
                       self.body, self.signature])  # fmt: skip

    @staticmethod
    def decode(data: bytes) -> Entry:
        """Raises DataError unless `data` is exactly what `encode` gives."""
        items = decode(data)
        shape = (at_most(16), uint(64), uint(64), uint(32), exactly(NODE_ID_BYTES),
                 at_most(33 << 20), at_most(65))  # fmt: skip
        if not isinstance(items, tuple) or len(items) != len(shape):
            raise DataError(f"A signed message has {len(shape)} fields.")
        kind, *rest = (read(item) for read, item in zip(shape, items, strict=True))
        known = {k.value.encode(): k for k in Kind}
        if kind not in known:
            raise DataError(f"There is no message type {kind!r}.")
        return Entry(known[kind], *rest)

    @staticmethod
    def sign(key: Key, chain_id: int, round_: int, body: Body, view: int = 0) -> Entry:
        """`body` as said by the key's owner."""
        data = body.encode()
        signed = digest(body.KIND.domain, chain_id, round_, view, key.node_id, data)
        return Entry(body.KIND, chain_id, round_, view, key.node_id, data, key.sign(signed))
