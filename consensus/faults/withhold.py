"""Withhold: promise and not deliver.

Paper: none; our derivation (commitments that are never opened, data that nobody can fetch, blocks
that are never written).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from consensus.fault import Fault, FaultView
from consensus.identity import Key
from consensus.pofel.messages import Entry, Kind
from fedalign.core.errors import ConfigError

What = Literal["commit", "reveal", "avail", "vote_commit", "vote", "block", "data"]


@dataclass(frozen=True)
class Withhold(Fault):
    """Never sends one kind of message, or keeps its model to itself.

    what: a kind of message, or "data": the reveal names a model that is handed out to the first
    `served` servers only (>= 0).
    """

    what: What = "reveal"
    served: int = 0

    def __post_init__(self) -> None:
        if self.what not in get_args(What) or self.served < 0:
            raise ConfigError(
                f"A server withholds one of {', '.join(get_args(What))} and serves 0 or more "
                f"others; got '{self.what}' and {self.served}."
            )

    def __call__(self, outgoing: Sequence[Entry], view: FaultView, key: Key) -> Sequence[Entry]:
        if self.what == "data":
            return outgoing
        return [entry for entry in outgoing if entry.kind is not Kind(self.what)]

    def serves(self, to: int) -> bool:
        return self.what != "data" or to < self.served
