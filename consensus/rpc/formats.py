"""Formats: blocks, transactions, receipts and logs as Ethereum clients spell them.

Source: the Ethereum execution API (EIP-1474): quantities without leading zeros, data in full.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from consensus.chain.transactions import keccak
from consensus.encoding import encode
from consensus.rpc.jsonrpc import PARAMS, RpcError


def quantity(value: int) -> str:
    return hex(value)


def data(value: bytes) -> str:
    return "0x" + value.hex()


def number(text: Any) -> int:
    """A quantity; raises RpcError."""
    try:
        if isinstance(text, str) and text[:2] == "0x" and len(text) <= 66:
            return int(text, 16)
    except ValueError:
        pass
    raise RpcError(PARAMS, f"A quantity is hexadecimal, such as 0x1f; got {str(text)[:80]!r}.")


def octets(text: Any, size: int | None = None) -> bytes:
    """Bytes, of this size where one is given; raises RpcError."""
    try:
        if isinstance(text, str) and text[:2] == "0x":
            found = bytes.fromhex(text[2:])
            if size is None or len(found) == size:
                return found
    except ValueError:
        pass
    wanted = "data" if size is None else f"{size} bytes"
    raise RpcError(PARAMS, f"{wanted} in hexadecimal after 0x asked for, got {str(text)[:80]!r}.")


def block(found: Any, full: bool) -> dict[str, Any]:
    """found: py-evm's block. full: with its transactions, else with their hashes."""
    header = found.header
    told = {
        "number": quantity(header.block_number),
        "hash": data(header.hash),
        "parentHash": data(header.parent_hash),
        "sha3Uncles": data(header.uncles_hash),
        "miner": data(header.coinbase),
        "stateRoot": data(header.state_root),
        "transactionsRoot": data(header.transaction_root),
        "receiptsRoot": data(header.receipt_root),
        "logsBloom": data(header.bloom.to_bytes(256, "big")),
        "difficulty": quantity(header.difficulty),
        "totalDifficulty": quantity(0),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "extraData": data(header.extra_data),
        "mixHash": data(header.mix_hash),
        "nonce": data(header.nonce.rjust(8, b"\0")),
        "baseFeePerGas": quantity(header.base_fee_per_gas),
        "withdrawalsRoot": data(header.withdrawals_root),
        "blobGasUsed": quantity(header.blob_gas_used),
        "excessBlobGas": quantity(header.excess_blob_gas),
        "parentBeaconBlockRoot": data(header.parent_beacon_block_root),
        "size": quantity(len(_rlp(found))),
        "uncles": [],
        "withdrawals": [],
    }
    if hasattr(header, "requests_hash"):
        told["requestsHash"] = data(header.requests_hash)
    told["transactions"] = [
        transaction(one, header, i) if full else data(one.hash)
        for i, one in enumerate(found.transactions)
    ]
    return told


def transaction(found: Any, header: Any, index: int) -> dict[str, Any]:
    """A transaction in its block."""
    kind = getattr(found, "type_id", None) or 0
    told = {
        "hash": data(found.hash),
        "blockHash": data(header.hash),
        "blockNumber": quantity(header.block_number),
        "transactionIndex": quantity(index),
        "type": quantity(kind),
        "from": data(found.sender),
        "to": data(found.to) if found.to else None,
        "nonce": quantity(found.nonce),
        "value": quantity(found.value),
        "gas": quantity(found.gas),
        "gasPrice": quantity(_price(found, header)),
        "input": data(found.data),
        "r": quantity(found.r),
        "s": quantity(found.s),
        "v": quantity(found.y_parity if kind else found.v),
    }
    if kind:
        told["chainId"] = quantity(found.chain_id)
        told["yParity"] = quantity(found.y_parity)
        told["accessList"] = [
            {"address": data(address), "storageKeys": [data(k.to_bytes(32, "big")) for k in keys]}
            for address, keys in found.access_list
        ]
    if kind >= 2:
        told["maxFeePerGas"] = quantity(found.max_fee_per_gas)
        told["maxPriorityFeePerGas"] = quantity(found.max_priority_fee_per_gas)
    return told


def receipts(found: Any, given: Any) -> Iterator[dict[str, Any]]:
    """The receipts of a block; `given` are py-evm's, in transaction order."""
    header, before, logs_before = found.header, 0, 0
    for index, (one, receipt) in enumerate(zip(found.transactions, given, strict=True)):
        place = {
            "transactionHash": data(one.hash),
            "transactionIndex": quantity(index),
            "blockHash": data(header.hash),
            "blockNumber": quantity(header.block_number),
        }
        logs = [log(entry, place, logs_before + i, header) for i, entry in enumerate(receipt.logs)]
        yield place | {
            "type": quantity(getattr(one, "type_id", None) or 0),
            "status": quantity(int(receipt.state_root == b"\x01")),
            "from": data(one.sender),
            "to": data(one.to) if one.to else None,
            "contractAddress": None if one.to else data(created(one.sender, one.nonce)),
            "gasUsed": quantity(receipt.gas_used - before),
            "cumulativeGasUsed": quantity(receipt.gas_used),
            "effectiveGasPrice": quantity(_price(one, header)),
            "logs": logs,
            "logsBloom": data(receipt.bloom.to_bytes(256, "big")),
        }
        before, logs_before = receipt.gas_used, logs_before + len(receipt.logs)


def log(entry: Any, place: dict[str, Any], index: int, header: Any) -> dict[str, Any]:
    """One event of a transaction at `place`; index: among the block's."""
    return place | {
        "address": data(entry.address),
        "topics": [data(topic.to_bytes(32, "big")) for topic in entry.topics],
        "data": data(entry.data),
        "logIndex": quantity(index),
        "blockTimestamp": quantity(header.timestamp),
        "removed": False,
    }


def created(sender: bytes, nonce: int) -> bytes:
    """The address of the contract that this transaction creates."""
    return keccak(encode([sender, nonce]))[-20:]


def _price(found: Any, header: Any) -> int:
    """What a unit of gas costs: base fee and tip, at most what the sender allows."""
    tip = header.base_fee_per_gas + found.max_priority_fee_per_gas
    return min(found.max_fee_per_gas, tip)


def _rlp(found: Any) -> bytes:
    import rlp

    return rlp.encode(found)
