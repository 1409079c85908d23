"""Pool: signed transactions that wait for a block.

Paper: none; our derivation (first come, first served: gas has no price on our chains).
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.chain.node import ChainNode
from consensus.chain.transactions import transaction_hash
from fedalign.core.errors import ConfigError, DataError

MOST = 4096
MOST_BYTES = 128 << 10
MOST_AHEAD = 64  # nonces of one sender that wait


class Pool:
    """What `node` was handed and no block holds yet; at most 4096 transactions of 128 KiB."""

    def __init__(self, node: ChainNode):
        self._node = node
        self._waiting: dict[bytes, bytes] = {}  # hash -> raw, in order of arrival

    def add(self, raw: bytes) -> bytes:
        """Take a signed transaction and return its hash; taking it twice changes nothing.

        Raises DataError where it is malformed, of another chain, used up, too large or too dear,
        ConfigError where the pool is full.
        """
        name = transaction_hash(raw)
        if name in self._waiting:
            return name
        if len(raw) > MOST_BYTES:
            raise DataError(f"A transaction has at most {MOST_BYTES} bytes, got {len(raw)}.")
        if len(self._waiting) >= MOST:
            raise ConfigError(f"{MOST} transactions wait already: try again after the next block.")
        found, node = self._node.transaction(raw), self._node
        with node.lock:
            state = node.state()
            nonce, balance = state.get_nonce(found.sender), state.get_balance(found.sender)
        if found.chain_id not in (node.genesis.chain_id, None):
            raise DataError(
                f"The transaction is for chain {found.chain_id}, this is {node.genesis.chain_id}."
            )
        if not nonce <= found.nonce < nonce + MOST_AHEAD:
            raise DataError(f"The sender's next nonce is {nonce}, got {found.nonce}.")
        dearest = found.value + found.gas * found.max_fee_per_gas
        if dearest > balance or found.gas > node.genesis.gas_limit:
            raise DataError(
                f"The transaction may cost {dearest} wei and {found.gas} gas; its sender has "
                f"{balance} wei, a block {node.genesis.gas_limit} gas."
            )
        self._waiting[name] = raw
        return name

    def __len__(self) -> int:
        return len(self._waiting)

    def waiting(self) -> tuple[bytes, ...]:
        """The raw transactions in the order in which they may stand in a block: as they came, but
        each sender's by nonce."""
        found = [self._node.transaction(raw) for raw in self._waiting.values()]
        raw = list(self._waiting.values())
        turns: dict[bytes, list[int]] = {}
        for i, transaction in enumerate(found):
            turns.setdefault(transaction.sender, []).append(i)
        order = list(range(len(found)))
        for places in turns.values():
            by_nonce = sorted(places, key=lambda i: found[i].nonce)
            for place, i in zip(places, by_nonce, strict=True):
                order[place] = i
        return tuple(raw[i] for i in order)

    def forget(self, raw: Sequence[bytes]) -> None:
        """Drop what a block holds, and what can stand in no later one."""
        for one in raw:
            self._waiting.pop(transaction_hash(one), None)
        state = self._node.state()
        for name, one in list(self._waiting.items()):
            found = self._node.transaction(one)
            if found.nonce < state.get_nonce(found.sender):
                del self._waiting[name]
