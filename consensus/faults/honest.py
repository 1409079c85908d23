"""Honest: a server that says what the protocol says.

Paper: none; the reference every fault is measured against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consensus.fault import Fault, FaultView
from consensus.identity import Key
from consensus.pofel.messages import Entry


@dataclass(frozen=True)
class Honest(Fault):
    """Sends `outgoing` unchanged."""

    def __call__(self, outgoing: Sequence[Entry], view: FaultView, key: Key) -> Sequence[Entry]:
        return outgoing
