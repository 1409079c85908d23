"""Fault: a Byzantine server as a plug-in between what it ought to say and what it says.

Paper: none; our derivation (the server runs the honest protocol; its outgoing messages pass here).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from consensus.identity import Key
from consensus.pofel.messages import Body, Entry, Kind, Vote
from consensus.pofel.settings import Settings
from consensus.pofel.state import State
from consensus.pofel.task import Evaluated


@dataclass(frozen=True)
class FaultView:
    """What a lying server knows. Servers are positions in the chain's order.

    server: itself. coalition: all servers with this fault, itself included. settings, state: the
    replicated ones. evaluated: the round's, once its models are there. sent: kinds it has sent in
    this round. proposals: server -> (d,) int64, what its coalition brings to this round, and what
    everybody brings where the fault is `omniscient`. models: the revealed ones that it has
    fetched, by root. own: its honest model (d,) int64, or
    None. nonce: purpose -> 32 bytes, the same when asked again. put: keeps a model (d,) int64 for
    others to fetch; its root and its length in bytes. honest_vote: the vote that an honest server
    casts for a candidate; None: for the best one. rng: chance of this server and round.
    """

    server: int
    coalition: tuple[int, ...]
    settings: Settings
    state: State
    evaluated: Evaluated | None
    sent: frozenset[Kind]
    proposals: Mapping[int, np.ndarray]
    models: Callable[[], Mapping[bytes, np.ndarray]]
    own: np.ndarray | None
    nonce: Callable[[str], bytes]
    put: Callable[[np.ndarray], tuple[bytes, int]]
    honest_vote: Callable[[bytes | None], Vote]
    rng: np.random.Generator

    @property
    def node(self) -> bytes:
        return self.settings.members[self.server]

    def say(self, key: Key, body: Body, view: int = 0) -> Entry:
        """`body` signed for this chain and round."""
        return Entry.sign(key, self.settings.chain_id, self.state.round, body, view)


class Fault(Protocol):
    """A Byzantine server. Frozen; the same view, the same answer."""

    omniscient: bool = False

    def __call__(self, outgoing: Sequence[Entry], view: FaultView, key: Key) -> Sequence[Entry]:
        """What the server sends instead of `outgoing`, which may be empty: a fault is asked
        whenever the server has heard something."""

    def serves(self, to: int) -> bool:
        """Whether it hands its models out to server `to`."""
        return True
