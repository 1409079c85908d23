"""Wire: Raft messages as bytes, a batch of entries as one blob.

Paper: none; our derivation (entries as in the write-ahead log).
"""

from __future__ import annotations

import struct

from consensus.raft.confchange import decode_conf, encode_conf
from consensus.raft.messages import Kind, Message, Snapshot
from consensus.wal_records import entries_payload, to_entries
from fedalign.core.errors import DataError

_HEAD = struct.Struct("<BqqQQQQQ?QIII")  # ..., lengths of context, entries, snapshot
_SNAPSHOT = struct.Struct("<QQI")  # index, term, length of the configuration


def to_bytes(m: Message) -> bytes:
    """One message; `from_bytes` gives it back, entries as a list."""
    entries = entries_payload(m.entries) if m.entries else b""
    snapshot = _snapshot(m.snapshot) if m.snapshot is not None else b""
    head = _HEAD.pack(
        m.kind, m.to, m.sender, m.term, m.log_term, m.index, m.commit, m.commit_term, m.reject,
        m.reject_hint, len(m.context), len(entries), len(snapshot),
    )  # fmt: skip
    return b"".join((head, m.context, entries, snapshot))


def from_bytes(data: bytes) -> Message:
    """The message in `data`; DataError if it holds anything else."""
    try:
        *head, context, entries, snapshot = _HEAD.unpack_from(data)
        kind, to, sender, term, log_term, index, commit, commit_term, reject, hint = head
        first = _HEAD.size
        second, third = first + context, first + context + entries
        if len(data) != third + snapshot:
            raise DataError(f"A message of {third + snapshot} bytes came as {len(data)}.")
        return Message(
            Kind(kind), to, sender, term, log_term, index, commit, reject, hint,
            to_entries(data[second:third]) if entries else (),
            data[first:second],
            _to_snapshot(data[third:]) if snapshot else None,
            commit_term,
        )  # fmt: skip
    except (struct.error, ValueError) as error:
        raise DataError(f"{len(data)} bytes hold no Raft message: {error}.") from error


def _snapshot(snapshot: Snapshot) -> bytes:
    conf = encode_conf(snapshot.conf)
    return _SNAPSHOT.pack(snapshot.index, snapshot.term, len(conf)) + conf + snapshot.data


def _to_snapshot(data: bytes) -> Snapshot:
    index, term, length = _SNAPSHOT.unpack_from(data)
    end = _SNAPSHOT.size + length
    return Snapshot(index, term, decode_conf(data[_SNAPSHOT.size : end]), data[end:])
