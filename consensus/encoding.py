"""Encoding: RLP, canonical only, so that one object has one byte string.

Paper: Wood, "Ethereum: A Secure Decentralised Generalised Transaction Ledger", Appendix B.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedalign.core.errors import DataError

Item = bytes | tuple["Item", ...]

MAX_DEPTH = 16  # a bomb of nested lists ends here, not at the interpreter's recursion limit


def encode(item: bytes | int | Sequence[Any]) -> bytes:
    """Bytes, non-negative integers (big-endian, no leading zero) and sequences of these -> RLP."""
    if isinstance(item, int):
        item = item.to_bytes((item.bit_length() + 7) // 8, "big")
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _head(0x80, len(item)) + item
    body = b"".join(map(encode, item))
    return _head(0xC0, len(body)) + body


def decode(data: bytes) -> Item:
    """RLP -> bytes or nested tuples. Raises DataError unless `data` is exactly what `encode` gives."""
    item, end = _read(data, 0, len(data), 0)
    if end != len(data):
        raise DataError(f"RLP ends at byte {end} of {len(data)}: bytes follow the item.")
    return item


def to_int(data: Item, bits: int) -> int:
    """Big-endian bytes -> integer below 2^bits; raises DataError on leading zeros and lists."""
    if not isinstance(data, bytes) or data[:1] == b"\0":
        raise DataError("An integer must be bytes without leading zeros.")
    value = int.from_bytes(data, "big")
    if value >> bits:
        raise DataError(f"An integer of {bits} bits was asked for, got {value.bit_length()} bits.")
    return value


def pack(value: Any) -> bytes:
    """Plain data (None, bool, int, bytes, str, sequences, mappings) -> bytes; equal data, equal bytes.

    Floats are refused: nothing that is hashed or compared may hold one.
    """
    return encode(_tagged(value))


def unpack(data: bytes) -> Any:
    """The inverse of `pack`; sequences come back as tuples. Raises DataError."""
    return _untagged(decode(data))


def _head(base: int, length: int) -> bytes:
    if length < 56:
        return bytes([base + length])
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([base + 55 + len(size)]) + size


def _read(data: bytes, at: int, end: int, depth: int) -> tuple[Item, int]:
    if depth > MAX_DEPTH:
        raise DataError(f"RLP is nested deeper than {MAX_DEPTH} lists.")
    if at >= end:
        raise DataError(f"RLP ends early, at byte {at}.")
    first = data[at]
    if first < 0x80:
        return data[at : at + 1], at + 1
    start, stop = _span(data, at, end, first)
    if first < 0xC0:
        if stop - start == 1 and data[start] < 0x80:
            raise DataError(f"RLP at byte {at} wraps a single small byte: not canonical.")
        return data[start:stop], stop
    items: list[Item] = []
    while start < stop:
        item, start = _read(data, start, stop, depth + 1)
        items.append(item)
    return tuple(items), stop


def _span(data: bytes, at: int, end: int, first: int) -> tuple[int, int]:
    """Where the content of the item at `at` starts and stops."""
    short = (first - 0x80) % 0x40
    start = at + 1
    if short < 56:
        length = short
    else:
        size = data[start : start + short - 55]
        start += short - 55
        if start > end or size[:1] == b"\0":
            raise DataError(f"RLP at byte {at} has a damaged length.")
        length = int.from_bytes(size, "big")
        if length < 56:
            raise DataError(f"RLP at byte {at} has a long form for a short length: not canonical.")
    if start + length > end:
        raise DataError(f"RLP at byte {at} claims {length} bytes, only {end - start} are there.")
    return start, start + length


def _tagged(value: Any) -> Any:
    if value is None:
        return b"n"
    if isinstance(value, bool):
        return b"1" if value else b"0"
    if isinstance(value, int):
        return (b"-", -value) if value < 0 else (b"+", value)
    if isinstance(value, bytes):
        return (b"x", value)
    if isinstance(value, str):
        return (b"s", value.encode())
    if isinstance(value, Mapping):
        pairs = sorted((pack(k), v) for k, v in value.items())
        return (b"d", *((k, _tagged(v)) for k, v in pairs))
    if isinstance(value, list | tuple):
        return (b"t", *map(_tagged, value))
    raise DataError(
        f"Plain data holds no {type(value).__name__}: use integers, bytes, text, tuples."
    )


def _untagged(item: Item) -> Any:
    if isinstance(item, bytes):
        known = {b"n": None, b"1": True, b"0": False}
        if item not in known:
            raise DataError(f"Plain data has no tag {item!r}.")
        return known[item]
    tag, *rest = item or (b"",)
    if tag == b"t":
        return tuple(map(_untagged, rest))
    if tag == b"d":
        return {_untagged(decode(key)): _untagged(value) for key, value in rest}
    if len(rest) == 1 and isinstance(rest[0], bytes):
        body = rest[0]
        if tag in (b"+", b"-"):
            magnitude = to_int(body, 8 * len(body) or 1)
            return -magnitude if tag == b"-" else magnitude
        if tag == b"x":
            return body
        if tag == b"s":
            return body.decode()
    raise DataError(f"Plain data has no tag {tag!r}.")
