"""Equivocate: say two different things where one is due.

Paper: Lamport, Shostak, Pease, "The Byzantine Generals Problem", TOPLAS 1982 (two-faced
processes); which messages can contradict each other is our derivation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from consensus.fault import Fault, FaultView
from consensus.identity import Key
from consensus.pofel.blocks import block_hash
from consensus.pofel.messages import Block, Commit, Entry, Kind, Vote
from fedalign.core.errors import ConfigError

What = Literal["commit", "vote", "block"]


@dataclass(frozen=True)
class Equivocate(Fault):
    """Sends a second, different message of one kind. what: commit, vote or block."""

    what: What = "commit"

    def __post_init__(self) -> None:
        if self.what not in get_args(What):
            raise ConfigError(
                f"A server equivocates about one of {', '.join(get_args(What))}; got '{self.what}'."
            )

    def __call__(self, outgoing: Sequence[Entry], view: FaultView, key: Key) -> Sequence[Entry]:
        result = []
        for entry in outgoing:
            result.append(entry)
            if entry.kind is Kind(self.what):
                result.append(view.say(key, _other(entry.content), entry.view))
        return result


def _other(body: Commit | Vote | Block) -> Commit | Vote | Block:
    """A body that says something else."""
    if isinstance(body, Commit):
        return replace(body, size=body.size + 1)
    if isinstance(body, Vote):
        shares = body.prediction_ppm
        moved = (shares[-1], *shares[:-1])
        return replace(body, prediction_ppm=moved, nonce=bytes(32))
    later = replace(body, time_s=body.time_s + 1)
    return replace(later, header_hash=block_hash(later))
