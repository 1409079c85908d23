"""A chain of a few members, and short words to write blocks and calls on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consensus.chain.abi import Interface
from consensus.chain.compiler import compiled
from consensus.chain.database import Database
from consensus.chain.genesis import ADDRESSES, Genesis
from consensus.chain.node import ChainNode
from consensus.chain.seal import BlockSeal
from consensus.chain.transactions import signed
from consensus.identity import Key
from tests.consensus.pofel.servers import CHECK, keys, nodes


def interface(contract: str) -> Interface:
    return Interface(compiled(contract).abi)


@dataclass(frozen=True)
class Did:
    """One transaction in a block: did it succeed, its gas, its events."""

    ok: bool
    gas: int
    logs: Sequence[Any]

    def event(self, contract: str, name: str) -> Mapping[str, Any] | None:
        """The last such event."""
        told = [
            interface(contract).event(
                name, tuple(t.to_bytes(32, "big") for t in log.topics), log.data
            )
            for log in self.logs
        ]
        return next((event for event in reversed(told) if event), None)


class Bench:
    """n members whose first `quorum` seal every block."""

    def __init__(self, n: int = 4, database: Database | None = None, **genesis: Any):
        self.keys = keys(n)
        self.node = ChainNode(Genesis(nodes(n), **genesis), database, check=CHECK)
        self.round = 0

    def block(self, *raw: bytes, by: int = 0, time_s: int | None = None, **seal: Any) -> bytes:
        """Seal a block of these transactions; its bytes."""
        time_s = self.node.head.timestamp + 1 if time_s is None else time_s
        payload = self.node.build(self.keys[by].node_id, time_s, bytes([7]) * 32, raw)
        self.node.import_final(payload, self.seal(payload, by, **seal))
        return payload

    def seal(self, payload: bytes, by: int = 0, signers: int | None = None, rank: int = 0):
        header = self.node.decode(payload).header
        self.round += 1
        members = self.node.members_at(self.node.head)
        own = [key for key in self.keys if key.node_id in members]
        signers = self.node.genesis.needs(len(members)) if signers is None else signers
        where = (self.node.genesis.chain_id, self.round, rank, header.hash)
        return BlockSeal.sign(own[:signers], self.keys[by], *where)

    def nonce(self, key: Key) -> int:
        return self.node.state().get_nonce(key.node_id)

    def raw(
        self, key: Key, contract: str | bytes, data: bytes, value: int = 0, ahead: int = 0
    ) -> bytes:
        to = ADDRESSES[contract] if isinstance(contract, str) else contract
        chain_id, nonce = self.node.genesis.chain_id, self.nonce(key) + ahead
        return signed(
            key, chain_id=chain_id, nonce=nonce, to=to, data=data, value=value, max_fee_wei=0
        )

    def send(
        self, key: Key, contract: str, function: str, *values: Any, value: int = 0, by: int = 0
    ) -> Did:
        """One call in a block of its own, written by member `by`."""
        data = interface(contract).call(function, *values)
        self.block(self.raw(key, contract, data, value), by=by)
        header = self.node.head
        (receipt,) = self.node.receipts(header)
        return Did(receipt.state_root == b"\x01", header.gas_used, receipt.logs)

    def why(self, key: Key, contract: str, function: str, *values: Any, value: int = 0) -> str:
        """The sentence with which a call would be refused; empty where it would not."""
        from consensus.chain.reader import reason

        data = interface(contract).call(function, *values)
        answer = self.node.ask(ADDRESSES[contract], data, sender=key.node_id, value=value)
        return "" if answer.failure is None else reason(answer.output)

    def read(self, contract: str, function: str, *values: Any) -> Any:
        return self.node.read(contract, function, *values)

    def balance(self, account: bytes) -> int:
        return self.node.state().get_balance(account)
