"""Node: one server's chain: builds blocks, executes those of others, keeps what has been sealed.

Paper: none; our derivation on py-evm (a block counts once it is sealed, so there is no fork choice).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import rlp
from eth_utils import ValidationError

from consensus.chain.database import Database
from consensus.chain.genesis import Genesis
from consensus.chain.reader import Block, Header, Reader
from consensus.chain.seal import BlockSeal, SealEngine, key_of
from consensus.identity import SignatureCheck
from fedalign.core.errors import DataError, IntegrityError

REMEMBERED = 8  # executed blocks that wait for their seal


class ChainNode(Reader):
    """The chain that begins with `genesis`, in `database` (None: in memory).

    check: signatures, shared with whoever else checks them.
    """

    def __init__(
        self,
        genesis: Genesis,
        database: Database | None = None,
        check: SignatureCheck | None = None,
    ):
        super().__init__(genesis, Database(None) if database is None else database)
        # by the block's bytes: its hash would leave out the transactions
        self._executed: dict[bytes, tuple[Block, dict[bytes, bytes | None]]] = {}
        context = self._chain.consensus_context
        self._engine = SealEngine(context)
        self._child_of = genesis.child_of()
        context.chain_id, context.needs = genesis.chain_id, genesis.needs
        self.check = context.check = SignatureCheck() if check is None else check
        context.members_at = self.members_at
        context.parent_of = self._parent_of

    def build(
        self, author: bytes, time_s: int, evidence_root: bytes, transactions: Sequence[bytes] = ()
    ) -> bytes:
        """The next block, unsealed: its bytes, the same for the same arguments.

        time_s: above the head's. evidence_root: 32 bytes. transactions: signed, in order. Raises
        DataError where one of them cannot be decoded or may not stand there.
        """
        with self.lock:
            header = self._draft(author, time_s, evidence_root)
            decoded = [self.transaction(raw) for raw in transactions]
            return self._executing(
                f"Block {header.block_number}", lambda: self._made(header, decoded)
            )

    def fitting(
        self, author: bytes, time_s: int, evidence_root: bytes, transactions: Sequence[bytes]
    ) -> list[bytes]:
        """Those that the next block can hold, in this order; the others are left out."""
        kept = []
        with self.lock, self.database.transaction(commit=False):
            header = self._draft(author, time_s, evidence_root)
            vm = self._chain.get_vm(header)
            for raw in transactions:
                try:
                    receipt, _ = vm.apply_transaction(header, self.transaction(raw))
                except (DataError, ValidationError):
                    continue
                header = vm.add_receipt_to_header(header, receipt)
                kept.append(raw)
        return kept

    def preview(self, payload: bytes) -> Header:
        """Execute a block on the head and keep nothing: its header.

        Raises DataError where the bytes are no block, IntegrityError where executing it gives
        another header or the header breaks a rule of the chain; the seal is not looked at.
        """
        with self.lock:
            if payload in self._executed:
                return self._executed[payload][0].header
            block, head = self.decode(payload), self._head
            if block.header.parent_hash != head.hash:
                raise IntegrityError(
                    f"Block {block.number} follows 0x{block.header.parent_hash.hex()[:16]}, the "
                    f"head is block {head.block_number}, 0x{head.hash.hex()[:16]}."
                )
            self._check_header(block, head)
            base = self._chain.create_header_from_parent(head)
            vm = self._chain.get_vm(base.copy(gas_used=block.header.gas_used))
            made = self._executing(f"Block {block.number}", lambda: vm.import_block(block).block)
            if made != payload:
                done, _ = self._executed.pop(made)
                raise IntegrityError(
                    f"Executing block {block.number} gives {_difference(done, block)}."
                )
            return block.header

    def import_final(
        self, payload: bytes, seal: BlockSeal, extra: Mapping[bytes, bytes] | None = None
    ) -> Header:
        """Keep a sealed block; with it, in the same transaction, the `extra` keys.

        Importing the head again changes nothing. Raises DataError or IntegrityError; then nothing
        is kept.
        """
        with self.lock:
            if payload not in self._executed:
                block = self.decode(payload)
                if block.hash == self._head.hash:
                    return block.header
                self.preview(payload)
            block, writes = self._executed[payload]
            self._engine.context.given = (block.hash, seal)
            try:
                with self.database.transaction():
                    self.database.apply(writes)
                    self.database[key_of(block.hash)] = seal.encode()
                    for key, value in (extra or {}).items():
                        self.database[key] = value
                    self._engine.validate_seal(block.header)
                    self._engine.validate_seal_extension(block.header)
                    self._chain.chaindb.persist_block(block)
                self._head = block.header
            except ValidationError as error:
                raise IntegrityError(str(error)) from error
            finally:
                self._engine.context.given = None
            self._executed.clear()
            return block.header

    # ------------------------------------------------------------ inside

    def _parent_of(self, header: Header) -> Header:
        if header.parent_hash == self._head.hash:
            return self._head
        return self._chain.get_block_header_by_hash(header.parent_hash)

    def _draft(self, author: bytes, time_s: int, evidence_root: bytes) -> Header:
        place = {"coinbase": author, "timestamp": time_s, "extra_data": evidence_root}
        return self._child_of(self._head, **place)

    def _check_header(self, block: Block, head: Header) -> None:
        """The rules that need no execution and no seal."""
        vm = self._chain.get_vm_class(block.header)
        try:
            vm.validate_header(block.header, head)
            self._chain.get_vm(block.header).validate_seal(block.header)
        except ValidationError as error:
            raise IntegrityError(f"Block {block.number} breaks a rule: {error}") from error
        if block.header.gas_limit != self.genesis.gas_limit:
            raise IntegrityError(
                f"Block {block.number} has a gas limit of {block.header.gas_limit}, this chain's "
                f"is {self.genesis.gas_limit}."
            )

    def _made(self, header: Header, transactions: Sequence[Any]) -> Block:
        """The block that these transactions make after `header`."""
        if not transactions:  # on a chain of ours nothing else changes the state
            block_class = self._chain.get_vm_class(header).get_block_class()
            return block_class(header, (), (), ())
        vm = self._chain.get_vm(header)
        after, receipts, _ = vm.apply_all_transactions(transactions, header)
        filled = vm.set_block_transactions_and_withdrawals(
            vm.get_block(), after, transactions, receipts, withdrawals=()
        )
        vm.state.persist()
        return filled.copy(header=filled.header.copy(state_root=vm.state.state_root))

    def _executing(self, name: str, run: Callable[[], Block]) -> bytes:
        """Run a block on the head; the bytes of what it gives. Its writes wait for the seal."""
        try:
            with self.database.transaction(commit=False) as writes:
                done = run()
                kept = dict(writes)
        except ValidationError as error:
            raise DataError(f"{name} cannot be executed: {error}") from error
        if len(self._executed) >= REMEMBERED:
            self._executed.pop(next(iter(self._executed)))
        made = rlp.encode(done)
        self._executed[made] = done, kept
        return made

    def close(self) -> None:
        with self.lock:
            self.database.close()


def _difference(done: Block, told: Block) -> str:
    """The first header field that differs."""
    fields = done.header.as_dict()
    for name, value in told.header.as_dict().items():
        if fields[name] != value:
            return f"another {name}"
    return "other contents"
