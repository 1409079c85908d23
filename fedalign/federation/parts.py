"""The objects of one run, and what an edge round leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedalign.core.contracts import (
    Aggregate,
    Algorithm,
    Context,
    DataAttack,
    Defense,
    Evaluate,
    Runtime,
    UpdateAttack,
    Updates,
    Work,
    Workload,
)
from fedalign.core.market import Incentive, Offer, Payments
from fedalign.core.seeds import Seeds
from fedalign.federation.sampling import Sampling


@dataclass(frozen=True)
class Schedule:
    """When attackers attack: from round `start` (1 is the first) for `rounds` rounds, None = on."""

    start: int = 1
    rounds: int | None = None

    def active(self, round: int) -> bool:
        return round >= self.start and (self.rounds is None or round < self.start + self.rounds)


@dataclass(frozen=True)
class Federation:
    """The objects of one run. secret: what only the server knows until the run ends."""

    workload: Workload
    algorithm: Algorithm
    runtime: Runtime
    sampling: Sampling
    attack: UpdateAttack | DataAttack
    defense: Defense
    seeds: Seeds
    secret: bytes
    incentive: Incentive
    work: Work = Work()
    schedule: Schedule = Schedule()

    def on_the_servers_split(self) -> Evaluate:
        """A model (d,) -> its metrics on the server's own data."""
        return lambda vector: self.workload.evaluate(vector, "server")


@dataclass(frozen=True)
class Outcome:
    """What an edge round leaves: `updates` and `context` are the exact inputs of the rule."""

    updates: Updates
    context: Context
    aggregate: Aggregate
    attacked: bool
    attack_memory: Mapping[str, Any]
    nonfinite: Sequence[int]
    failed: Mapping[int, str]
    offer: Offer
    payments: Payments = Payments()
    seconds: Mapping[str, float] = field(default_factory=dict)
