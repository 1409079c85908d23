"""Transactions: a call, signed by one of our keys, as the bytes that any Ethereum node takes.

Paper: Buterin et al., "EIP-1559: Fee market change", 2019; typed envelopes are EIP-2718.
"""

from __future__ import annotations

from consensus.encoding import encode
from consensus.identity import Key
from fedalign.core.errors import ConfigError

DYNAMIC_FEE = b"\x02"
GAS = 16_000_000
MAX_FEE_WEI = 10**9  # per gas, far above the 0 at which our chains begin


def signed(
    key: Key,
    *,
    chain_id: int,
    nonce: int,
    to: bytes | None,
    data: bytes = b"",
    value: int = 0,
    gas: int = GAS,
    max_fee_wei: int = MAX_FEE_WEI,
    tip_wei: int = 0,
) -> bytes:
    """The signed transaction. to: 20 bytes, None creates a contract from `data`. value: wei.

    gas: most that may be used. max_fee_wei, tip_wei: per gas, 0 <= tip <= max.
    """
    if min(chain_id - 1, nonce, value, gas, tip_wei, max_fee_wei - tip_wei) < 0:
        raise ConfigError(
            "A transaction needs chain_id >= 1, nonce, value and gas >= 0 and 0 <= tip_wei <= "
            f"max_fee_wei; got {chain_id}, {nonce}, {value}, {gas}, {tip_wei}, {max_fee_wei}."
        )
    fields = [chain_id, nonce, tip_wei, max_fee_wei, gas, to or b"", value, data, ()]
    signature = key.sign(keccak(DYNAMIC_FEE + encode(fields)))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    return DYNAMIC_FEE + encode([*fields, signature[64], r, s])


def transaction_hash(raw: bytes) -> bytes:
    """What names a transaction."""
    return keccak(raw)


def keccak(data: bytes) -> bytes:
    """Keccak-256."""
    from Crypto.Hash import keccak as hashes

    return hashes.new(digest_bits=256, data=data).digest()
