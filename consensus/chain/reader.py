"""Reader: what a chain holds, for whoever asks: blocks, receipts, state, and calls that keep nothing.

Paper: none; our derivation on py-evm.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from threading import RLock
from typing import Any

import rlp
from eth.abc import BlockAPI as Block
from eth.abc import BlockHeaderAPI as Header
from eth.exceptions import BlockNotFound, HeaderNotFound, TransactionNotFound
from eth.vm.spoof import SpoofTransaction
from eth_utils import ValidationError

from consensus.chain.abi import Interface
from consensus.chain.compiler import compiled
from consensus.chain.database import Database
from consensus.chain.genesis import ADDRESSES, Genesis
from consensus.chain.seal import BlockSeal, key_of
from consensus.encoding import decode, encode
from fedalign.core.errors import DataError

READER = bytes(19) + b"\xff"  # who asks where nobody is named; owns nothing
REMEMBERED = 8  # lists of members


@dataclass(frozen=True)
class Answer:
    """What a call gave. output: returned bytes, or the revert data. failure: why it failed, None
    where it did not. gas_used: of the execution and its transaction."""

    output: bytes
    failure: str | None
    gas_used: int


class Reader:
    """The chain that begins with `genesis`, in `database`. Safe to use from several threads."""

    def __init__(self, genesis: Genesis, database: Database):
        self.genesis, self.database, self.lock = genesis, database, RLock()
        self._chain = genesis.open(database)
        self._head = self._chain.get_canonical_head()
        self._members: dict[bytes, tuple[bytes, ...]] = {}  # by state root

    @property
    def head(self) -> Header:
        """The header of the last sealed block."""
        return self._head

    @property
    def height(self) -> int:
        return self.head.block_number

    def decode(self, payload: bytes) -> Block:
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

    def header_at(self, height: int) -> Header | None:
        """The header of block `height`, None where there is none yet."""
        with self.lock:
            try:
                return self._chain.get_canonical_block_header_by_number(height)
            except HeaderNotFound:
                return None

    def block(self, which: int | bytes) -> Block | None:
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

    def receipts(self, header: Header) -> tuple:
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

    def state(self, header: Header | None = None) -> Any:
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
        header: Header | None = None,
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

    def members_at(self, header: Header) -> tuple[bytes, ...]:
        """The members once that block is applied, in order of position."""
        if header.state_root not in self._members:
            if len(self._members) >= REMEMBERED:
                self._members.pop(next(iter(self._members)))
            self._members[header.state_root] = self._read_members(header)
        return self._members[header.state_root]

    def _read_members(self, header: Header) -> tuple[bytes, ...]:
        interface = Interface(compiled("Members", self.genesis.fork).abi)
        answer = self.ask(ADDRESSES["Members"], interface.call("all"), header=header)
        return tuple(bytes.fromhex(a[2:]) for a in interface.result("all", answer.output))


def reason(output: bytes) -> str:
    """The sentence in revert data, or its hexadecimal form."""
    from eth_abi import decode as abi_decode
    from eth_abi.exceptions import DecodingError

    if output[:4] == bytes.fromhex("08c379a0"):  # Error(string)
        with suppress(DecodingError):  # a stranger's contract may spell it wrong
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
