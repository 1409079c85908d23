"""Orderer: the one surface of every core that puts entries into a total order.

A core does no I/O, starts no thread and reads no clock: calls go in, a `Ready` comes out, the
driver persists, speaks and acts, in that order, and reports back with `advance`.

Paper: none; our derivation (after the contract of etcd-io/raft's RawNode).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Proposed(NamedTuple):
    """What became of a proposal.

    status: "accepted" (appended here), "forwarded" (sent on to `to`) or "dropped".
    reason: why it was dropped, a sentence; empty otherwise.
    to: the leader it went to, or that would take it; -1 if none is known.
    term, index: where the last entry of the proposal was appended, if accepted.
    """

    status: str
    reason: str = ""
    to: int = -1
    term: int = 0
    index: int = 0


class Orderer(Protocol):
    """A replicated log seen from its driver; Raft and BFT cores look the same."""

    def propose(self, data: bytes) -> Proposed:
        """Ask for `data` to be ordered."""

    def step(self, message: Any) -> None:
        """A message of another server arrived."""

    def tick(self) -> None:
        """One unit of time passed."""

    def has_ready(self) -> bool:
        """Is there anything to persist, send or apply?"""

    def ready(self) -> Any:
        """What to persist, then to send, then to apply."""

    def advance(self, ack: Any) -> None:
        """Some of what `ready` asked for has been done."""
