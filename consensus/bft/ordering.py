"""BftOrdering: the BFT core behind the adapter through which servers order a round's entries.

Paper: Buchman, Kwon and Milosevic, arXiv 1807.04938.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np

from consensus.bft.cluster import size_of
from consensus.bft.config import BftConfig
from consensus.bft.core import Bft
from consensus.bft.messages import Message
from consensus.bft.signing import Gate, Signer
from consensus.identity import Key, SignatureCheck


@dataclass(frozen=True)
class BftOrdering:
    """Tolerates f < n/3 servers that do anything.

    tick_ms: > 0. config: the core's knobs. chain_id: what signatures are bound to. keys: of the
    servers, by position; where none are given, keys that only this process knows about.
    """

    tick_ms: float = 50.0
    config: BftConfig = BftConfig()
    chain_id: int = 1337
    keys: tuple[Key, ...] = ()
    _check: SignatureCheck = field(default_factory=SignatureCheck, repr=False, compare=False)

    def core(self, id: int, servers: int, rng: np.random.Generator) -> Bft:
        keys = self.keys or tuple(map(_known_key, range(servers)))
        core = Bft(id, range(servers), self.config, (), Signer(keys[id], self.chain_id))
        node_ids = [key.node_id for key in keys[:servers]]
        core.gate = Gate(node_ids, self.chain_id, self._check)
        return core

    def start(self, core: Bft) -> None:
        """Nothing: nobody is elected."""

    def leader(self, core: Bft) -> int:
        """Proposers take turns; one constant server is named, so that nothing is asked again."""
        return core.members[0]

    def route(self, core: Bft) -> int:
        """Every server takes proposals and shows them to all."""
        return core.id

    def remember(self, core: Bft, batch: Sequence[bytes]) -> None:
        """Nothing: cores say again what waits."""

    def step(self, core: Bft, sender: int, message: Message) -> None:
        body = core.gate.admit(message.body)
        if body is not None:
            core.step(Message(core.id, body, sender))

    def propose(self, core: Bft, batch: Sequence[bytes]) -> bool:
        """Have all of `batch` ordered; what waits or was ordered already needs nothing."""
        refused = [core.propose(data) for data in batch]
        return not any("would exceed" in proposed.reason for proposed in refused)

    def size(self, message: Message) -> int:
        return size_of(message.body)

    def committed(self, ready: Any) -> list[bytes]:
        return [item for decision in ready.committed_entries for item in decision.batch]


def _known_key(position: int) -> Key:
    return Key(sha256(b"fedalign/bft/simulated/%d" % position).digest())
