"""Orderings: the baselines as a chain's ordering protocol.

Paper: none; one adapter per core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from consensus.baselines._replica import Replica
from consensus.baselines.clique import Clique
from consensus.baselines.hotstuff import HotStuff
from consensus.baselines.pbft import Pbft
from consensus.baselines.pow import ProofOfWork
from consensus.identity import Key
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds

HEADER = 64


@dataclass(frozen=True)
class _Baseline:
    """tick_ms: > 0. They ask nobody what may be ordered yet, and no server loses its voice."""

    tick_ms: float = 50.0

    mines: ClassVar[bool] = False  # True: every server hashes as long as a round lasts

    def __post_init__(self) -> None:
        if self.tick_ms <= 0:
            raise ConfigError(f"tick_ms is above 0, got {self.tick_ms}.")

    def start(self, core: Replica) -> None:
        """Everybody knows the first leader."""

    def leader(self, core: Replica) -> int:
        return core.leader

    def route(self, core: Replica) -> int:
        return core.leader

    def remember(self, core: Replica, batch: Sequence[bytes]) -> None:
        core.remember(batch)

    def step(self, core: Replica, sender: int, message: Any) -> None:
        core.step(sender, message.body)

    def propose(self, core: Replica, batch: Sequence[bytes]) -> bool:
        return core.propose_many(batch).status != "dropped"

    def size(self, message: Any) -> int:
        return HEADER + message.size

    def committed(self, ready: Any) -> list[bytes]:
        return ready.committed


@dataclass(frozen=True)
class PbftOrdering(_Baseline):
    """f < n/3 servers may lie about the order. patience: ticks before another primary, > 0."""

    patience: int = 6

    def core(self, id: int, servers: int, rng: np.random.Generator, *_: Any) -> Pbft:
        return Pbft(id, servers, self.patience)


@dataclass(frozen=True)
class HotStuffOrdering(_Baseline):
    """f < n/3 servers may lie. patience: ticks before the next leader's turn, > 0. seed: of keys."""

    patience: int = 6
    seed: int = 0

    def core(self, id: int, servers: int, rng: np.random.Generator, *_: Any) -> HotStuff:
        return HotStuff(id, servers, _keys(self.seed, servers), self.patience)


@dataclass(frozen=True)
class CliqueOrdering(_Baseline):
    """f < n/2 authorities may stop; blocks count once a majority is on top. period: ticks between
    blocks, > 0. seed: of keys."""

    period: int = 2
    seed: int = 0

    def core(self, id: int, servers: int, rng: np.random.Generator, *_: Any) -> Clique:
        return Clique(id, servers, _keys(self.seed, servers), self.period)

    def route(self, core: Clique) -> int:
        return core.id


@dataclass(frozen=True)
class PowOrdering(_Baseline):
    """Less than half of the hash power may lie, and no block is ever certain. interval_ms: mean
    time between blocks, > 0. bits: of real work per block. depth: blocks on top of one that
    counts, >= 0."""

    tick_ms: float = 50.0
    interval_ms: float = 10_000.0
    bits: int = 8
    depth: int = 6

    mines: ClassVar[bool] = True

    def core(self, id: int, servers: int, rng: np.random.Generator, *_: Any) -> ProofOfWork:
        interval = self.interval_ms / self.tick_ms
        return ProofOfWork(id, servers, rng, interval, self.bits, self.depth)

    def route(self, core: ProofOfWork) -> int:
        return core.id


def _keys(seed: int, servers: int) -> tuple[Key, ...]:
    return tuple(Key(Seeds(seed).key("server_key", server=i)) for i in range(servers))
