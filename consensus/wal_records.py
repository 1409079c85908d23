"""WAL records: how hard states, entries and snapshots look on the disk.

    record = length:u32le | crc:u32le | type:u8 | payload          crc over length, type, payload

Paper: none; our derivation (length, checksum, type, payload, as in most such logs).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import groupby
from typing import NamedTuple
from zlib import crc32

from consensus.raft.confchange import decode_conf, encode_conf
from consensus.raft.messages import Entry, EntryKind, HardState, Snapshot

# CRC-32C is usual here; the standard library has CRC-32, as strong against torn writes.
HEAD = struct.Struct("<IIB")


class Type(IntEnum):
    """What a record holds."""

    SEGMENT = 1  # sequence:u64 | bytes of the segment before:u64; first in every segment
    MARK = 2  # offset:u64 below which this segment was forced to disk when this was written
    HARD_STATE = 3
    ENTRIES = 4
    SNAPSHOT = 5


class Record(NamedTuple):
    """A record found at `offset`, the next one would be at `end`."""

    offset: int
    end: int
    type: Type
    payload: bytes


def record(type: Type, payload: bytes) -> bytes:
    """A framed record."""
    crc = crc32(payload, crc32(struct.pack("<IB", len(payload), type)))
    return HEAD.pack(len(payload), crc, type) + payload


def read(data: bytes, offset: int) -> Record | None:
    """The record at `offset`; None if there is none or it is damaged. Zeros are no record."""
    if offset + HEAD.size > len(data):
        return None
    length, crc, type = HEAD.unpack_from(data, offset)
    end = offset + HEAD.size + length
    if not Type.SEGMENT <= type <= Type.SNAPSHOT or end > len(data):
        return None
    payload = data[offset + HEAD.size : end]
    if crc != crc32(payload, crc32(struct.pack("<IB", length, type))):
        return None
    return Record(offset, end, Type(type), payload)


def read_all(data: bytes) -> Iterator[Record]:
    """Records from the beginning up to the first that is missing or damaged."""
    offset = 0
    while (found := read(data, offset)) is not None:
        yield found
        offset = found.end


def marks_after(data: bytes, offset: int) -> Iterator[int]:
    """What readable MARK records behind a damaged place say to have been durable."""
    size = struct.pack("<I", 8)
    position = data.find(size, offset)
    while position >= 0:
        found = read(data, position)
        if found is not None and found.type is Type.MARK:
            yield struct.unpack("<Q", found.payload)[0]
        position = data.find(size, position + 1)


def hard_state(state: HardState) -> bytes:
    """HARD_STATE: term:u64 | vote:i64 | commit:u64."""
    return record(Type.HARD_STATE, struct.pack("<QqQ", *state))


def to_hard_state(payload: bytes) -> HardState:
    """Inverse of `hard_state`."""
    return HardState(*struct.unpack("<QqQ", payload))


def entries(batch: Sequence[Entry]) -> bytes:
    """ENTRIES: first index, runs of (term, kind, count), all lengths, all payloads."""
    return record(Type.ENTRIES, entries_payload(batch))


def entries_payload(batch: Sequence[Entry]) -> bytes:
    """The inside of an ENTRIES record; the batch is not empty and without gaps."""
    runs = [(term, kind, len(list(run))) for (term, kind), run in groupby(batch, lambda e: e[::2])]
    parts = [struct.pack("<QII", batch[0].index, len(batch), len(runs))]
    parts += [struct.pack("<QBI", *run) for run in runs]
    parts.append(struct.pack(f"<{len(batch)}I", *[len(entry.data) for entry in batch]))
    parts += [entry.data for entry in batch]
    return b"".join(parts)


def to_entries(payload: bytes) -> list[Entry]:
    """Inverse of `entries`."""
    index, count, runs = struct.unpack_from("<QII", payload)
    position, heads = 16, []
    for _ in range(runs):
        term, kind, length = struct.unpack_from("<QBI", payload, position)
        heads += [(term, EntryKind(kind))] * length
        position += 13
    lengths = struct.unpack_from(f"<{count}I", payload, position)
    position += 4 * count
    found = []
    for (term, kind), length in zip(heads, lengths, strict=True):
        found.append(Entry(term, index, kind, payload[position : position + length]))
        index, position = index + 1, position + length
    return found


def snapshot(meta: Snapshot, sha256: bytes) -> bytes:
    """SNAPSHOT: index:u64 | term:u64 | sha256 of its file | configuration."""
    head = struct.pack("<QQ32s", meta.index, meta.term, sha256)
    return record(Type.SNAPSHOT, head + encode_conf(meta.conf))


def to_snapshot(payload: bytes) -> tuple[Snapshot, bytes]:
    """Inverse of `snapshot`: without its data, and the data's SHA-256."""
    index, term, sha256 = struct.unpack_from("<QQ32s", payload)
    return Snapshot(index, term, decode_conf(payload[48:])), sha256
