"""Seal: what makes a block final, kept beside the block so that any Ethereum client can read it.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (the elected leader signs); the detached seal
with a quorum of FINAL signatures is our derivation. Clients refuse blocks whose extra data exceed
32 bytes, so the header carries only the root of the round's evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eth.abc import BlockHeaderAPI, ConsensusAPI, ConsensusContextAPI
from eth_utils import ValidationError

from consensus.encoding import decode, encode
from consensus.identity import Key, SignatureCheck, digest, recover
from consensus.pofel.messages import Entry, Final, exactly, many, uint
from consensus.pofel.seal import Seal, quorum, verify
from fedalign.core.errors import DataError, IntegrityError

DOMAIN = "fedalign/chain/leader/v1"
EVIDENCE_BYTES = 32


@dataclass(frozen=True)
class BlockSeal:
    """round: the chain's round, aborted ones counted. rank: place of the author in the election.
    leader: the author's signature over the header hash. finals: a quorum's FINAL messages."""

    round: int
    rank: int
    leader: bytes
    finals: Seal

    def encode(self) -> bytes:
        finals = [final.encode() for final in self.finals.finals]
        return encode([self.round, self.rank, self.leader, finals])

    @staticmethod
    def decode(data: bytes) -> BlockSeal:
        """Raises DataError."""
        items = decode(data)
        if not isinstance(items, tuple) or len(items) != 4 or not isinstance(items[3], tuple):
            raise DataError("A block's seal has 4 fields: round, rank, leader and finals.")
        finals = many(lambda item: Entry.decode(item))(items[3])
        return BlockSeal(
            uint(64)(items[0]), uint(32)(items[1]), exactly(65)(items[2]), Seal(finals)
        )

    @staticmethod
    def sign(
        keys: Sequence[Key], author: Key, chain_id: int, round_: int, rank: int, header_hash: bytes
    ) -> BlockSeal:
        """The seal that the owners of `keys` give together."""
        finals = [Entry.sign(key, chain_id, round_, Final(rank, header_hash)) for key in keys]
        return BlockSeal(
            round_,
            rank,
            lead(author, chain_id, round_, rank, header_hash),
            Seal(tuple(finals)),
        )


def lead(
    author: Key,
    chain_id: int,
    round_: int,
    rank: int,
    header_hash: bytes,
    check: SignatureCheck | None = None,
) -> bytes:
    """The author's own signature of its block. check: what need not recover it."""
    signed = digest(DOMAIN, chain_id, round_, rank, author.node_id, header_hash)
    signature = author.sign(signed)
    if check is not None:
        check.made(signed, signature, author.node_id)
    return signature


def leads(
    signature: bytes, author: bytes, chain_id: int, round_: int, rank: int, header_hash: bytes
) -> bool:
    """Whether `author` signed its block so."""
    return recover(digest(DOMAIN, chain_id, round_, rank, author, header_hash), signature) == author


def key_of(header_hash: bytes) -> bytes:
    """Where the database keeps a block's seal."""
    return b"pofel:seal:" + header_hash


class SealContext(ConsensusContextAPI):
    """What the seal engine looks at besides the header.

    members_at: a header -> the members once that block is applied. needs: a number of members ->
    how many must sign; a majority suffices where servers only crash.
    """

    def __init__(
        self,
        db,
        chain_id: int = 0,
        members_at: Callable[[BlockHeaderAPI], Sequence[bytes]] | None = None,
        parent_of: Callable[[BlockHeaderAPI], BlockHeaderAPI] | None = None,
        check: SignatureCheck | None = None,
        needs: Callable[[int], int] = quorum,
    ):
        self.db, self.chain_id = db, chain_id
        self.members_at, self.parent_of = members_at, parent_of
        self.check, self.needs = check, needs
        self.last = (b"", 0)  # the block that was found sealed last, and its round
        self.given: tuple[bytes, BlockSeal] | None = None  # a seal that is being looked at


class SealEngine(ConsensusAPI):
    """py-evm's hook: refuses every block that its members have not sealed."""

    def __init__(self, context: SealContext):
        self.context = context

    @classmethod
    def get_fee_recipient(cls, header: BlockHeaderAPI) -> bytes:
        return header.coinbase

    def validate_seal(self, header: BlockHeaderAPI) -> None:
        if len(header.extra_data) != EVIDENCE_BYTES:
            raise ValidationError(
                f"Block {header.block_number} has {len(header.extra_data)} bytes of extra data, a "
                f"sealed block has the {EVIDENCE_BYTES} of its evidence root."
            )

    def validate_seal_extension(self, header: BlockHeaderAPI, parents=()) -> None:
        """Author is a member at the parent; its signature and a quorum of finals fit this header."""
        try:
            seal, parent = self._seal(header.hash), self.context.parent_of(header)
            members = self.context.members_at(parent)
            self._check_round(seal, parent)
            if header.coinbase not in members:
                raise IntegrityError(f"0x{header.coinbase.hex()} wrote a block but is no member.")
            self._check_leader(seal, header)
            verify(
                seal.finals,
                chain_id=self.context.chain_id,
                round_=seal.round,
                rank=seal.rank,
                header_hash=header.hash,
                members=members,
                check=self.context.check,
                needs=self.context.needs(len(members)),
            )
            self.context.last = (header.hash, seal.round)
        except (DataError, IntegrityError) as error:
            raise ValidationError(f"Block {header.block_number}: {error}") from error

    def _seal(self, header_hash: bytes) -> BlockSeal:
        if self.context.given is not None and self.context.given[0] == header_hash:
            return self.context.given[1]
        key = key_of(header_hash)
        if key not in self.context.db:
            raise IntegrityError(f"There is no seal for 0x{header_hash.hex()}.")
        return BlockSeal.decode(self.context.db[key])

    def _check_round(self, seal: BlockSeal, parent: BlockHeaderAPI) -> None:
        known, before = self.context.last
        if known != parent.hash:
            before = 0 if parent.block_number == 0 else self._seal(parent.hash).round
        if seal.round <= before:
            raise IntegrityError(f"The seal is of round {seal.round}, the parent's of {before}.")

    def _check_leader(self, seal: BlockSeal, header: BlockHeaderAPI) -> None:
        where = (self.context.chain_id, seal.round, seal.rank)
        signed = digest(DOMAIN, *where, header.coinbase, header.hash)
        if reason := self.context.check(signed, seal.leader, header.coinbase):
            raise IntegrityError(f"The author's signature does not fit: {reason}.")
