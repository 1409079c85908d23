"""Storage: where a driver keeps what a core must not forget.

Paper: none; our derivation (the persist step of Ongaro, Stanford 2014, Figure 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from consensus.raft.messages import Entry, HardState, Snapshot


class Durable(NamedTuple):
    """What a restarted server finds: entries follow the snapshot without a gap."""

    hard_state: HardState = HardState()
    snapshot: Snapshot = Snapshot()
    entries: tuple[Entry, ...] = ()


class Storage(Protocol):
    """The disk of one server."""

    def load(self) -> Durable:
        """What is there after a start."""

    def save(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        snapshot: Snapshot | None,
        sync: bool,
    ) -> None:
        """Write one batch; after `sync` it survives any crash. Entries replace what they overlap."""


class MemoryStorage:
    """A disk that never fails and never forgets, for tests and benchmarks."""

    def __init__(self, durable: Durable = Durable()):
        self.hard_state, self.snapshot = durable.hard_state, durable.snapshot
        self.entries = list(durable.entries)

    def load(self) -> Durable:
        """Everything saved."""
        return Durable(self.hard_state, self.snapshot, tuple(self.entries))

    def save(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        snapshot: Snapshot | None,
        sync: bool = True,
    ) -> None:
        """Write one batch."""
        if hard_state is not None:
            self.hard_state = hard_state
        if snapshot is not None:
            self.entries = after_snapshot(self.entries, snapshot)
            self.snapshot = snapshot
        if entries:
            self.entries[entries[0].index - self.snapshot.index - 1 :] = entries


def after_snapshot(entries: list[Entry], snapshot: Snapshot) -> list[Entry]:
    """The entries that still follow a snapshot: none unless its own last entry is among them."""
    for position, entry in enumerate(entries):
        if entry.index == snapshot.index:
            return entries[position + 1 :] if entry.term == snapshot.term else []
    return []
