"""The objects of one run, and what an edge round leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fedalign.core.agreement import Consensus, Verdict
from fedalign.core.contracts import (
    Aggregate,
    Algorithm,
    Context,
    DataAttack,
    Defense,
    Evaluate,
    Late,
    Runtime,
    State,
    UpdateAttack,
    Updates,
    Work,
    Workload,
)
from fedalign.core.market import Incentive, Offer, Payments
from fedalign.core.seeds import Seeds
from fedalign.federation.clock import Clock, Span, Untimed
from fedalign.federation.sampling import Sampling
from fedalign.federation.stragglers import Stragglers
from fedalign.federation.topology import Topology


@dataclass(frozen=True)
class Schedule:
    """When attackers attack: from round `start` (1 is the first) for `rounds` rounds, None = on."""

    start: int = 1
    rounds: int | None = None

    def active(self, round: int) -> bool:
        return round >= self.start and (self.rounds is None or round < self.start + self.rounds)


Reports = Callable[[State], Mapping[int, Any]]


def nothing(state: State) -> dict[int, Any]:
    """What is heard of other edges where this process plays all of them."""
    return {}


@dataclass(frozen=True)
class Federation:
    """The objects of one run. secret: what only the server knows until the run ends. defense: the
    rule that client updates meet at every edge; global_defense: the rule among edge models, asked
    where there are several edges, by which the edge servers agree in `consensus`. edge_attackers: edge servers that attack in
    place of clients; then `sampling` has no attackers. played: the edges whose rounds this process
    plays, None for all. reports: what other processes told of theirs, edge -> `EdgeRun`."""

    workload: Workload
    algorithm: Algorithm
    runtime: Runtime
    sampling: Sampling
    attack: UpdateAttack | DataAttack
    defense: Defense
    seeds: Seeds
    secret: bytes
    incentive: Incentive
    consensus: Consensus
    work: Work = Work()
    schedule: Schedule = Schedule()
    topology: Topology = Topology()
    global_defense: Defense | None = None
    edge_attackers: Sequence[int] = ()
    stragglers: Stragglers = Stragglers()
    clock: Clock = Untimed()
    played: Sequence[int] | None = None
    reports: Reports = nothing

    def plays(self, edge: int) -> bool:
        """Whether this process plays an edge's rounds."""
        return self.played is None or edge in self.played

    def at_edge(self, edge: int) -> Federation:
        """The same with the sampling of one edge's devices."""
        members = self.topology.members(self.sampling.clients)[edge]
        return replace(self, sampling=self.sampling.within(members))

    def above_edges(self) -> Federation:
        """The same seen from where edge models meet: edges are what clients are below."""
        among = Sampling(self.topology.edges, 1.0, self.edge_attackers)
        return replace(self, sampling=among, defense=self.global_defense)

    def on_the_servers_split(self) -> Evaluate:
        """A model (d,) -> its metrics on the server's own data."""
        return lambda vector: self.workload.evaluate(vector, "server")


@dataclass(frozen=True)
class Streamed:
    """What is known of rows that were added up and let go. arrived, lying: rows, and those of
    attackers. samples: behind them. missing: members that were to send a row and have none. loss:
    sum of their training losses."""

    arrived: int = 0
    lying: int = 0
    samples: int = 0
    missing: int = 0
    loss: float = 0.0

    def plus(self, block: Updates, lying: int) -> Streamed:
        """With one more block."""
        loss = block.metrics.get("train_loss")
        return replace(
            self,
            arrived=self.arrived + len(block.clients),
            lying=self.lying + lying,
            samples=self.samples + int(block.samples.sum()),
            loss=self.loss + (0.0 if loss is None else float(loss.double().sum())),
        )


@dataclass(frozen=True)
class Outcome:
    """What a round leaves: `updates` and `context` are the exact inputs of the rule.

    Of several edges, the last edge round of each is in `edges`, all of them in `runs`, the meeting of their models in
    `meeting` with their `verdict`; `updates` are then the rows of all edges together. late: client -> (round, row,
    start) of rows that came too late. missing: members that were to send a row and have none.
    streamed: where the rule let rows go, what is known of them; then `updates` are empty.
    """

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
    late: Mapping[int, Late] = field(default_factory=dict)
    missing: Sequence[int] = ()
    span: Span = Span()
    edges: Mapping[int, Outcome] = field(default_factory=dict)
    runs: Mapping[int, Any] = field(default_factory=dict)
    meeting: Outcome | None = None
    verdict: Verdict | None = None
    streamed: Streamed | None = None
