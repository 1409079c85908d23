"""Witness: notices servers that say two things where one is due, until they are punished.

Paper: none; our derivation (see `consensus.pofel.fraud` for what convicts).
"""

from __future__ import annotations

from collections.abc import Callable

from consensus.pofel.fraud import ONCE
from consensus.pofel.messages import Entry, Fraud

Place = tuple[object, int, int, bytes]  # kind, round, view, sender


class Witness:
    """One server's memory of what was said. genuine: whether an entry is truly signed."""

    def __init__(self, genuine: Callable[[Entry], bool]):
        self._genuine = genuine
        self._first: dict[Place, Entry] = {}
        self._found: dict[Place, Fraud] = {}

    @property
    def open(self) -> list[Fraud]:
        """Found, and not yet seen to be punished."""
        return list(self._found.values())

    def hear(self, entry: Entry) -> Fraud | None:
        """A proof, the first time that this entry contradicts an earlier one."""
        if entry.kind not in ONCE:
            return None
        place = (entry.kind, entry.round, entry.view, entry.sender)
        first = self._first.setdefault(place, entry)
        if first.body == entry.body or place in self._found:
            return None
        if not self._genuine(entry) or not self._genuine(first):
            return None
        self._found[place] = Fraud(first.encode(), entry.encode())
        return self._found[place]

    def punished(self, node: bytes) -> None:
        """No further report of this server is needed."""
        self._found = {place: fraud for place, fraud in self._found.items() if place[3] != node}

    def forget(self) -> None:
        """Another height begins: what was said of the last one is over."""
        self._first = {}
