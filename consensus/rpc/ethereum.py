"""Ethereum: the methods by which any client reads our chain and hands in signed transactions.

Source: the Ethereum execution API (EIP-1474). Blocks are final at once, so latest, safe and
finalized are the same; no method signs anything, and no key is reachable from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from consensus.chain.node import ChainNode
from consensus.chain.pool import Pool
from consensus.chain.reader import READER, Answer, reason
from consensus.rpc import formats
from consensus.rpc.formats import data, number, octets, quantity
from consensus.rpc.jsonrpc import PARAMS, REFUSED, REVERTED, TOO_MUCH, Method, RpcError

CALL_GAS = 10_000_000  # a call of a stranger must not keep the machine busy for long
MOST_BLOCKS, MOST_LOGS = 10_000, 10_000
FINAL = ("latest", "safe", "finalized", "pending")


class EthereumMethods:
    """Answers from `node`. pool: takes signed transactions; None refuses them."""

    def __init__(self, node: ChainNode, pool: Pool | None = None, call_gas: int = CALL_GAS):
        self._node, self._pool, self._call_gas = node, pool, call_gas

    def methods(self) -> dict[str, Method]:
        """By the names of the Ethereum API."""
        return {
            "web3_clientVersion": lambda: "fedalign/py-evm",
            "net_version": lambda: str(self._node.genesis.chain_id),
            "net_listening": lambda: True,
            "eth_chainId": lambda: quantity(self._node.genesis.chain_id),
            "eth_syncing": lambda: False,
            "eth_accounts": lambda: [],
            "eth_blockNumber": lambda: quantity(self._node.height),
            "eth_gasPrice": lambda: quantity(self._node.head.base_fee_per_gas),
            "eth_maxPriorityFeePerGas": lambda: quantity(0),
            "eth_feeHistory": self.fee_history,
            "eth_getBlockByNumber": self.block_by_number,
            "eth_getBlockByHash": self.block_by_hash,
            "eth_getBlockTransactionCountByNumber": self.count_by_number,
            "eth_getBlockTransactionCountByHash": self.count_by_hash,
            "eth_getBlockReceipts": self.block_receipts,
            "eth_getBalance": self.balance,
            "eth_getTransactionCount": self.transaction_count,
            "eth_getCode": self.code,
            "eth_getStorageAt": self.storage_at,
            "eth_call": self.call,
            "eth_estimateGas": self.estimate_gas,
            "eth_getTransactionByHash": self.transaction,
            "eth_getTransactionByBlockNumberAndIndex": self.transaction_by_number,
            "eth_getTransactionReceipt": self.receipt,
            "eth_getLogs": self.logs,
            "eth_sendRawTransaction": self.send_raw,
        }

    # ------------------------------------------------------------ blocks

    def block_by_number(self, which: Any, full: Any = False) -> Any:
        height = self._height(which)
        found = None if height is None else self._node.block(height)
        return None if found is None else formats.block(found, bool(full))

    def block_by_hash(self, which: Any, full: Any = False) -> Any:
        found = self._node.block(octets(which, 32))
        return None if found is None else formats.block(found, bool(full))

    def count_by_number(self, which: Any) -> Any:
        height = self._height(which)
        found = None if height is None else self._node.block(height)
        return None if found is None else quantity(len(found.transactions))

    def count_by_hash(self, which: Any) -> Any:
        found = self._node.block(octets(which, 32))
        return None if found is None else quantity(len(found.transactions))

    def block_receipts(self, which: Any) -> Any:
        height = self._height(which)
        found = None if height is None else self._node.block(height)
        return None if found is None else list(self._receipts(found))

    def fee_history(self, count: Any, newest: Any, percentiles: Any = None) -> Any:
        last = self._height(newest)
        count = number(count) if isinstance(count, str) else count
        if last is None or not isinstance(count, int) or not 0 < count <= 1024:
            raise RpcError(PARAMS, "A fee history has 1 .. 1024 blocks that end with a known one.")
        first = max(0, last - count + 1)
        headers = [self._node.header_at(height) for height in range(first, last + 1)]
        told = {
            "oldestBlock": quantity(first),
            "baseFeePerGas": [quantity(h.base_fee_per_gas) for h in [*headers, headers[-1]]],
            "gasUsedRatio": [h.gas_used / h.gas_limit for h in headers],
        }
        if isinstance(percentiles, list):
            told["reward"] = [[quantity(0)] * len(percentiles) for _ in headers]
        return told

    # ------------------------------------------------------------ state

    def balance(self, account: Any, which: Any = "latest") -> Any:
        return quantity(self._state(which).get_balance(octets(account, 20)))

    def transaction_count(self, account: Any, which: Any = "latest") -> Any:
        return quantity(self._state(which).get_nonce(octets(account, 20)))

    def code(self, account: Any, which: Any = "latest") -> Any:
        return data(self._state(which).get_code(octets(account, 20)))

    def storage_at(self, account: Any, slot: Any, which: Any = "latest") -> Any:
        value = self._state(which).get_storage(octets(account, 20), number(slot))
        return data(value.to_bytes(32, "big"))

    def call(self, asked: Any, which: Any = "latest") -> Any:
        answer = self._ask(asked, which)
        _refuse(answer)
        return data(answer.output)

    def estimate_gas(self, asked: Any, which: Any = "latest") -> Any:
        """The least gas with which it succeeds, to within one part in sixty-four."""
        most = self._ask(asked, which)
        _refuse(most)
        low, high = most.gas_used - 1, self._call_gas
        guess = most.gas_used + most.gas_used // 32
        while high - low > max(1, low // 64):
            if self._ask(asked, which, guess).failure is None:
                high = guess
            else:
                low = guess
            guess = (low + high) // 2
        return quantity(high)

    # ------------------------------------------------------------ transactions

    def transaction(self, name: Any) -> Any:
        place = self._node.place_of(octets(name, 32))
        return None if place is None else self._at(*place)

    def transaction_by_number(self, which: Any, index: Any) -> Any:
        height = self._height(which)
        return None if height is None else self._at(height, number(index))

    def receipt(self, name: Any) -> Any:
        place = self._node.place_of(octets(name, 32))
        if place is None:
            return None
        return list(self._receipts(self._node.block(place[0])))[place[1]]

    def send_raw(self, raw: Any) -> Any:
        if self._pool is None:
            raise RpcError(REFUSED, "This node takes no transactions: send it to a member's node.")
        with self._node.lock:
            return data(self._pool.add(octets(raw)))

    def logs(self, wanted: Any) -> Any:
        if not isinstance(wanted, dict):
            raise RpcError(PARAMS, "A log filter is an object.")
        accounts, topics = _accounts(wanted.get("address")), _topics(wanted.get("topics"))
        found: list[Any] = []
        for height in self._range(wanted):
            if self._node.header_at(height).bloom == 0:
                continue
            for receipt in self._receipts(self._node.block(height)):
                found += [log for log in receipt["logs"] if _fits(log, accounts, topics)]
            if len(found) > MOST_LOGS:
                raise RpcError(TOO_MUCH, f"More than {MOST_LOGS} logs: ask for fewer blocks.")
        return found

    # ------------------------------------------------------------ inside

    def _at(self, height: int, index: int) -> Any:
        found = self._node.block(height)
        if found is None or index >= len(found.transactions):
            return None
        return formats.transaction(found.transactions[index], found.header, index)

    def _receipts(self, found: Any) -> Iterator[dict[str, Any]]:
        return formats.receipts(found, self._node.receipts(found.header))

    def _height(self, which: Any) -> int | None:
        """A block's height; None for one that is not there yet."""
        if isinstance(which, dict):
            if "blockHash" in which:
                found = self._node.block(octets(which["blockHash"], 32))
                return None if found is None else found.number
            which = which.get("blockNumber")
        if which in FINAL:
            return self._node.height
        height = 0 if which == "earliest" else number(which)
        return height if height <= self._node.height else None

    def _header(self, which: Any) -> Any:
        height = self._height(which)
        if height is None:
            raise RpcError(REFUSED, f"There is no block {which}, the head is {self._node.height}.")
        return self._node.header_at(height)

    def _state(self, which: Any) -> Any:
        return self._node.state(self._header(which))

    def _ask(self, asked: Any, which: Any, gas: int | None = None) -> Answer:
        if not isinstance(asked, dict):
            raise RpcError(PARAMS, "A call is an object with to and data.")
        told = asked.get("input", asked.get("data", "0x"))
        limit = self._call_gas
        if gas is None and asked.get("gas") is not None:
            limit = min(limit, number(asked["gas"]))
        return self._node.ask(
            octets(asked["to"], 20) if asked.get("to") else b"",
            octets(told or "0x"),
            sender=octets(asked["from"], 20) if asked.get("from") else READER,
            value=number(asked.get("value") or "0x0"),
            gas=limit if gas is None else gas,
            header=self._header(which),
        )

    def _range(self, wanted: dict[str, Any]) -> range:
        if "blockHash" in wanted:
            height = self._height({"blockHash": wanted["blockHash"]})
            if height is None:
                raise RpcError(REFUSED, "There is no block with this hash.")
            return range(height, height + 1)
        first = self._height(wanted.get("fromBlock") or "latest")
        last = self._height(wanted.get("toBlock") or "latest")
        first = self._node.height + 1 if first is None else first
        last = self._node.height if last is None else last
        if last - first >= MOST_BLOCKS:
            raise RpcError(TOO_MUCH, f"A log filter spans at most {MOST_BLOCKS} blocks.")
        return range(first, last + 1)


def _refuse(answer: Answer) -> None:
    """Raise where a call failed; with its data where the contract said why."""
    if answer.failure is None:
        return
    if answer.output:
        told = reason(answer.output)
        raise RpcError(REVERTED, f"execution reverted: {told}", data(answer.output))
    raise RpcError(REFUSED, f"execution failed: {answer.failure}")


def _accounts(asked: Any) -> set[str] | None:
    if asked is None:
        return None
    return {data(octets(one, 20)) for one in (asked if isinstance(asked, list) else [asked])}


def _topics(asked: Any) -> list[set[str] | None]:
    if asked is None:
        return []
    if not isinstance(asked, list) or len(asked) > 4:
        raise RpcError(PARAMS, "Topics are a list of at most four places.")
    return [
        None
        if place is None
        else {data(octets(one, 32)) for one in (place if isinstance(place, list) else [place])}
        for place in asked
    ]


def _fits(log: dict[str, Any], accounts: set[str] | None, topics: list[set[str] | None]) -> bool:
    if accounts is not None and log["address"] not in accounts:
        return False
    if len(log["topics"]) < len(topics):
        return False
    return all(
        place is None or told in place for told, place in zip(log["topics"], topics, strict=False)
    )
