"""Node: one server's chain: builds blocks, executes those of others, keeps what has been sealed.

Paper: none; our derivation on py-evm (a block counts once it is sealed, so there is no fork choice).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Any

import rlp
from eth.abc import BlockAPI, BlockHeaderAPI
from eth.exceptions import BlockNotFound, HeaderNotFound, TransactionNotFound, VMError
from eth.vm.spoof import SpoofTransaction
from eth_utils import ValidationError

from consensus.chain.abi import Interface
from consensus.chain.compiler import compiled
from consensus.chain.database import Database
from consensus.chain.genesis import ADDRESSES, Genesis
from consensus.chain.seal import BlockSeal, SealEngine, key_of
from consensus.encoding import decode, encode
from consensus.identity import SignatureCheck
from fedalign.core.errors import DataError, IntegrityError

READER = bytes(19) + b"\xff"  # who asks where nobody is named; owns nothing
REMEMBERED = 8  # executed blocks that wait for their seal; lists of members


@dataclass(frozen=True)
class Answer:
    """What a call gave. output: returned bytes, or the revert data. failure: why it failed, None
    where it did not. gas_used: of the execution and its transaction."""

    output: bytes
    failure: str | None
    gas_used: int


class ChainNode:
    """The chain that begins with `genesis`, in `database` (None: in memory).

    check: signatures, shared with whoever else checks them. Safe to read from several threads.
    """

    def __init__(
        self,
        genesis: Genesis,
        database: Database | None = None,
        check: SignatureCheck | None = None,
    ):
        self.genesis = genesis
        self.database = Database(None) if database is None else database
        self.lock = RLock()
        self._chain = genesis.open(self.database)
        # by the block's bytes: its hash would leave out the transactions
        self._executed: dict[bytes, tuple[BlockAPI, dict[bytes, bytes | None]]] = {}
        self._members: dict[bytes, tuple[bytes, ...]] = {}  # by state root
        self._head = self._chain.get_canonical_head()
        context = self._chain.consensus_context
        self._engine = SealEngine(context)
        context.chain_id, context.needs = genesis.chain_id, genesis.needs
        self.check = context.check = SignatureCheck() if check is None else check
        context.members_at = self.members_at
        context.parent_of = lambda header: self._chain.get_block_header_by_hash(header.parent_hash)

    # ------------------------------------------------------------ blocks

    @property
    def head(self) -> BlockHeaderAPI:
        """The header of the last sealed block."""
        return self._head

    @property
    def height(self) -> int:
        return self.head.block_number

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

    def preview(self, payload: bytes) -> BlockHeaderAPI:
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

    def outcome_of(self, payload: bytes) -> tuple:
        """The receipts that executing this block on the head gives; keeps nothing."""
        with self.lock:
            header = self.preview(payload)
            with self.database.transaction(commit=False):
                self.database.apply(self._executed[payload][1])
                return self.receipts(header)

    def import_final(
        self, payload: bytes, seal: BlockSeal, extra: Mapping[bytes, bytes] | None = None
    ) -> BlockHeaderAPI:
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

    def decode(self, payload: bytes) -> BlockAPI:
        """The block that these bytes spell; raises DataError."""
        block_class = self._chain.get_vm_class_for_block_number(1).get_block_class()
        try:
            _shallow(payload)
            block = rlp.decode(payload, sedes=block_class)
            canonical = rlp.encode(block) == payload
        except (
            rlp.exceptions.RLPException,
            ValueError,
            TypeError,
            ValidationError,
            DataError,
        ) as error:
            raise DataError(f"These {len(payload)} bytes are no block: {error}") from error
        if not canonical:
            raise DataError("A block's bytes must be in canonical form.")
        return block

    def transaction(self, raw: bytes) -> Any:
        """The signed transaction that these bytes spell; raises DataError."""
        builder = self._chain.get_vm_class_for_block_number(1).get_transaction_builder()
        try:
            _shallow(encode([b"", [raw]]) if raw[:1] < b"\x80" else raw)
            found = builder.decode(raw)
            found.validate()
            found.sender  # noqa: B018  recovers it, and raises where nobody signed this
            return found
        except Exception as error:  # py-evm, rlp and eth-keys raise a dozen unrelated types here
            raise DataError(f"These {len(raw)} bytes are no signed transaction: {error}") from error

    def seal_of(self, header_hash: bytes) -> BlockSeal | None:
        """The seal that is kept beside a block; None for the genesis block and unknown ones."""
        key = key_of(header_hash)
        with self.lock:
            return BlockSeal.decode(self.database[key]) if key in self.database else None

    # ------------------------------------------------------------ reading

    def header_at(self, height: int) -> BlockHeaderAPI | None:
        """The header of block `height`, None where there is none yet."""
        with self.lock:
            try:
                return self._chain.get_canonical_block_header_by_number(height)
            except HeaderNotFound:
                return None

    def block(self, which: int | bytes) -> BlockAPI | None:
        """A block by height or hash, None where there is none."""
        with self.lock:
            try:
                if isinstance(which, int):
                    return self._chain.get_canonical_block_by_number(which)
                return self._chain.get_block_by_hash(which)
            except (BlockNotFound, HeaderNotFound):
                return None

    def payload(self, height: int) -> bytes:
        """The bytes of a block, as `import_final` takes them. Raises DataError where it is not here."""
        found = self.block(height)
        if found is None:
            raise DataError(f"There is no block {height}, the head is block {self.height}.")
        return rlp.encode(found)

    def receipts(self, header: BlockHeaderAPI) -> tuple:
        """The receipts of a block, in transaction order."""
        with self.lock:
            decoder = self._chain.get_vm_class(header).get_receipt_builder()
            return tuple(self._chain.chaindb.get_receipts(header, decoder))

    def place_of(self, transaction_hash: bytes) -> tuple[int, int] | None:
        """(height, index) of a transaction that is in a block, else None."""
        with self.lock:
            try:
                return self._chain.chaindb.get_transaction_index(transaction_hash)
            except TransactionNotFound:
                return None

    def state(self, header: BlockHeaderAPI | None = None) -> Any:
        """Balances, nonces, code and storage after a block (default: the head)."""
        with self.lock:
            return self._chain.get_vm(self.head if header is None else header).state

    def ask(
        self,
        to: bytes,
        data: bytes = b"",
        *,
        sender: bytes = READER,
        value: int = 0,
        gas: int | None = None,
        header: BlockHeaderAPI | None = None,
    ) -> Answer:
        """Execute a call on the state after a block (default: the head) and keep nothing.

        to: empty creates a contract. gas: at most (default: a block's).
        """
        with self.lock:
            vm = self._chain.get_vm(self.head if header is None else header)
        plain = vm.create_unsigned_transaction(
            nonce=vm.state.get_nonce(sender),
            gas_price=0,
            gas=self.genesis.gas_limit if gas is None else gas,
            to=to,
            value=value,
            data=data,
        )
        try:
            with vm.in_costless_state() as state:  # writes nothing: blocks may be imported besides
                done = state.costless_execute_transaction(SpoofTransaction(plain, from_=sender))
        except ValidationError as error:
            return Answer(b"", str(error), 0)
        used = plain.gas - done.get_gas_remaining()
        return Answer(done.output, str(done.error) if done.is_error else None, used)

    def read(self, contract: str, function: str, *values: Any) -> Any:
        """What a view function of one of our contracts answers; raises DataError where it reverts."""
        interface = Interface(compiled(contract, self.genesis.fork).abi)
        answer = self.ask(ADDRESSES[contract], interface.call(function, *values))
        if answer.failure is not None:
            raise DataError(f"{contract}.{function} refuses: {reason(answer.output)}.")
        return interface.result(function, answer.output)

    def members_at(self, header: BlockHeaderAPI) -> tuple[bytes, ...]:
        """The members once that block is applied, in order of position."""
        if header.state_root not in self._members:
            if len(self._members) >= REMEMBERED:
                self._members.pop(next(iter(self._members)))
            self._members[header.state_root] = self._read_members(header)
        return self._members[header.state_root]

    # ------------------------------------------------------------ inside

    def _read_members(self, header: BlockHeaderAPI) -> tuple[bytes, ...]:
        interface = Interface(compiled("Members", self.genesis.fork).abi)
        answer = self.ask(ADDRESSES["Members"], interface.call("all"), header=header)
        return tuple(bytes.fromhex(a[2:]) for a in interface.result("all", answer.output))

    def _draft(self, author: bytes, time_s: int, evidence_root: bytes) -> BlockHeaderAPI:
        return self._chain.create_header_from_parent(
            self._head,
            coinbase=author,
            timestamp=time_s,
            extra_data=evidence_root,
            gas_limit=self.genesis.gas_limit,
        )

    def _check_header(self, block: BlockAPI, head: BlockHeaderAPI) -> None:
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

    def _made(self, header: BlockHeaderAPI, transactions: Sequence[Any]) -> BlockAPI:
        """The block that these transactions make after `header`."""
        vm = self._chain.get_vm(header)
        after, receipts, _ = vm.apply_all_transactions(transactions, header)
        filled = vm.set_block_transactions_and_withdrawals(
            vm.get_block(), after, transactions, receipts, withdrawals=()
        )
        vm.state.persist()
        return filled.copy(header=filled.header.copy(state_root=vm.state.state_root))

    def _executing(self, name: str, run: Callable[[], BlockAPI]) -> bytes:
        """Run a block on the head; the bytes of what it gives. Its writes wait for the seal."""
        try:
            with self.database.transaction(commit=False) as writes:
                done = run()
                kept = dict(writes)
        except (ValidationError, VMError) as error:
            raise DataError(f"{name} cannot be executed: {error}") from error
        if len(self._executed) >= REMEMBERED:
            self._executed.pop(next(iter(self._executed)))
        made = rlp.encode(done)
        self._executed[made] = done, kept
        return made

    def close(self) -> None:
        with self.lock:
            self.database.close()


def reason(output: bytes) -> str:
    """The sentence in revert data, or its hexadecimal form."""
    from eth_abi import decode as abi_decode

    if output[:4] == bytes.fromhex("08c379a0"):  # Error(string)
        return abi_decode(["string"], output[4:])[0]
    return f"0x{output.hex()}" if output else "without a reason"


def _shallow(data: bytes) -> None:
    """Raise DataError on nested lists without end, also inside typed transactions: the decoder of
    py-evm recurses, and it raises the interpreter's limit beyond what the stack holds."""
    items = decode(data)
    inside = items[1] if isinstance(items, tuple) and len(items) > 1 else ()
    for typed in inside if isinstance(inside, tuple) else ():
        if isinstance(typed, bytes) and typed:
            decode(typed[1:])


def _difference(done: BlockAPI, told: BlockAPI) -> str:
    """The first header field that differs."""
    fields = done.header.as_dict()
    for name, value in told.header.as_dict().items():
        if fields[name] != value:
            return f"another {name}"
    return "other contents"
