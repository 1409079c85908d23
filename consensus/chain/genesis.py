"""Genesis: block 0, in which the members are named and our contracts stand already.

Paper: none; our derivation (constructors run once in the first state, so no deployment is ordered).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from consensus.chain.abi import Interface
from consensus.chain.compiler import compiled
from consensus.pofel.messages import MAX_MEMBERS
from consensus.pofel.seal import quorum
from fedalign.core.errors import ConfigError, IntegrityError

if TYPE_CHECKING:
    from consensus.chain.database import Database

FORKS = ("prague", "cancun")
CONTRACT_MEMBERS = 64  # the contracts' lists
CREATION_GAS = 10_000_000
KEY = b"pofel:genesis"
NEEDS: Mapping[str, Callable[[int], int]] = {"byzantine": quorum, "crash": lambda n: n // 2 + 1}

ADDRESSES: Mapping[str, bytes] = {
    name: bytes.fromhex("fed0") + bytes(17) + bytes([place])
    for place, name in enumerate(
        ("Members", "Rounds", "ModelRegistry", "Commitments", "Votes", "Rewards"), start=1
    )
}
"""Where the contracts stand on a chain of ours."""


@dataclass(frozen=True)
class Genesis:
    """The first block. members: their node ids, 1 .. 64, in order of position. chain_id: >= 1.

    time_s: Unix seconds. gas_limit: per block, >= 5000, the same for all blocks. fork: prague or
    cancun. escrow_wei: what the rewards are paid from. member_wei: each member's own. balances:
    further accounts. faults: byzantine (blocks are sealed by floor(2n/3) + 1 members) or crash (by
    a majority). agreed: 32 bytes, the hash of whatever else the members agreed on; it stands in the
    first block's extra data. Gas is counted, its price starts at 0.
    """

    members: tuple[bytes, ...]
    chain_id: int = 131_277
    time_s: int = 0
    gas_limit: int = 60_000_000
    fork: str = "prague"
    escrow_wei: int = 10**24
    member_wei: int = 10**24
    balances: Mapping[bytes, int] = field(default_factory=dict)
    faults: Literal["byzantine", "crash"] = "byzantine"
    agreed: bytes = bytes(32)

    def __post_init__(self) -> None:
        if not 1 <= len(self.members) <= min(CONTRACT_MEMBERS, MAX_MEMBERS):
            raise ConfigError(f"A chain has 1 .. 64 members, got {len(self.members)}.")
        if len(set(self.members)) < len(self.members) or any(len(m) != 20 for m in self.members):
            raise ConfigError("Members are different node ids of 20 bytes.")
        if self.fork not in FORKS:
            raise ConfigError(f"A chain's fork is one of {', '.join(FORKS)}, got '{self.fork}'.")
        for name, least in (("chain_id", 1), ("time_s", 0), ("gas_limit", 5000), ("escrow_wei", 0),
                            ("member_wei", 0)):  # fmt: skip
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is at least {least}, got {getattr(self, name)}.")
        if any(amount < 0 for amount in self.balances.values()):
            raise ConfigError("Balances are 0 or more wei.")
        if self.faults not in NEEDS or len(self.agreed) != 32:
            raise ConfigError(
                f"faults is 'byzantine' or 'crash' and agreed has 32 bytes, got '{self.faults}' and "
                f"{len(self.agreed)} bytes."
            )

    @property
    def needs(self) -> Callable[[int], int]:
        """A number of members -> how many of them seal a block."""
        return NEEDS[self.faults]

    def chain_class(self):
        """py-evm's chain with our seal engine; every block runs on `fork`."""
        from eth.chains.base import Chain
        from eth.vm.forks.cancun import CancunVM
        from eth.vm.forks.prague import PragueVM

        from consensus.chain.seal import SealContext, SealEngine

        vm = {"prague": PragueVM, "cancun": CancunVM}[self.fork]
        # Ours follow no beacon chain: its system contracts are absent, so nobody looks for them.
        state = vm.get_state_class().configure(
            __name__="SealedState", set_system_contracts=lambda self: None
        )
        sealed = vm.configure(
            __name__="SealedVM",
            consensus_class=SealEngine,
            _state_class=state,
            block_preprocessing=lambda self, block: None,
            block_postprocessing=lambda self, block: block,
        )
        return Chain.configure(
            __name__="SealedChain",
            vm_configuration=((0, sealed),),
            chain_id=self.chain_id,
            chaindb_class=growing_chain_db(),
            consensus_context_class=SealContext,
        )

    def child_of(self) -> Callable[..., Any]:
        """(header, author, time and evidence by their field names) -> the next header before
        anything is executed: py-evm's, without its detour through every fork since London. All our
        blocks are of one fork, so what is not named here stays."""
        from eth.constants import BLANK_ROOT_HASH
        from eth.vm.forks.cancun.headers import calc_excess_blob_gas_cancun
        from eth.vm.forks.london.headers import calculate_expected_base_fee_per_gas
        from eth.vm.forks.prague.headers import calc_excess_blob_gas_prague

        blob_rules = {"prague": calc_excess_blob_gas_prague, "cancun": calc_excess_blob_gas_cancun}
        blobs = blob_rules[self.fork]

        def child(head: Any, **place: Any) -> Any:
            fields = head.as_dict() | {
                "parent_hash": head.hash,
                "transaction_root": BLANK_ROOT_HASH,
                "receipt_root": BLANK_ROOT_HASH,
                "bloom": 0,
                "block_number": head.block_number + 1,
                "gas_limit": self.gas_limit,
                "gas_used": 0,
                "base_fee_per_gas": calculate_expected_base_fee_per_gas(head),
                "blob_gas_used": 0,
                "excess_blob_gas": blobs(head),
            }
            return type(head)(**(fields | place))

        return child

    def open(self, database: Database):
        """The chain in `database`; an empty one begins with this block.

        Raises IntegrityError where it began with another.
        """
        chain_class = self.chain_class()
        if KEY not in database:
            with database.transaction():
                header = self._header(chain_class, database)
                chain_class.from_genesis_header(database, header)
                database[KEY] = header.hash
            return chain_class(database)
        kept = database[KEY]
        with database.transaction(commit=False):
            expected = self._header(chain_class, database).hash
        if kept != expected:
            raise IntegrityError(
                f"The database holds a chain that begins with 0x{kept.hex()[:16]}, asked was one "
                f"that begins with 0x{expected.hex()[:16]}: use its folder, or an empty one."
            )
        return chain_class(database)

    def _header(self, chain_class, database: Database):
        """The first header; writes its state."""
        vm = chain_class.get_vm_class_for_block_number(0)
        fields = {
            "difficulty": 0,
            "gas_limit": self.gas_limit,
            "timestamp": self.time_s,
            "extra_data": self.agreed,
            "nonce": bytes(8),
            "base_fee_per_gas": 0,
        }
        state = self._state(vm, chain_class, database, vm.create_genesis_header(**fields))
        state.persist()
        return vm.create_genesis_header(**fields, state_root=state.state_root)

    def _state(self, vm, chain_class, database: Database, header):
        from eth.vm.chain_context import ChainContext

        state = vm.build_state(database, header, ChainContext(chain_class.chain_id))
        for account, amount in self.balances.items():
            state.set_balance(account, amount)
        for account in self.members:
            state.set_balance(account, self.member_wei + state.get_balance(account))
        writer = ADDRESSES["Rounds"]
        self._create(state, "Members", (self.members, True))
        self._create(state, "Commitments", (writer, ADDRESSES["Members"]))
        for name in ("ModelRegistry", "Votes"):
            self._create(state, name, (writer,))
        self._create(state, "Rewards", (writer,), self.escrow_wei)
        parts = ("Members", "ModelRegistry", "Commitments", "Votes", "Rewards")
        self._create(state, "Rounds", tuple(ADDRESSES[part] for part in parts))
        return state

    def _create(self, state, name: str, values: tuple, wei: int = 0) -> None:
        """Run a constructor as the zero address would."""
        from eth.constants import CREATE_CONTRACT_ADDRESS, ZERO_ADDRESS
        from eth.vm.message import Message

        artifact = compiled(name, self.fork)
        code = artifact.bytecode + Interface(artifact.abi).construct(*values)
        state.set_balance(ZERO_ADDRESS, wei)
        message = Message(
            gas=CREATION_GAS,
            to=CREATE_CONTRACT_ADDRESS,
            sender=ZERO_ADDRESS,
            value=wei,
            data=b"",
            code=code,
            create_address=ADDRESSES[name],
        )
        context = state.get_transaction_context_class()(gas_price=0, origin=ZERO_ADDRESS)
        computation = state.computation_class.apply_create_message(state, message, context)
        computation.raise_if_error()
        state.delete_account(ZERO_ADDRESS)
        state.lock_changes()


def growing_chain_db():
    """py-evm's record of a chain, for one that only grows: it never has gaps to look after."""
    from eth.db.chain import ChainDB
    from eth.db.chain_gaps import GENESIS_CHAIN_GAPS, GapChange

    class GrowingChainDB(ChainDB):
        @classmethod
        def _update_chain_gaps(cls, db, persisted_block, base_gaps=None):
            return GapChange.NoChange, GENESIS_CHAIN_GAPS

        @classmethod
        def _update_header_chain_gaps(cls, db, persisting_header, base_gaps=None):
            return GapChange.NoChange, GENESIS_CHAIN_GAPS

    return GrowingChainDB
