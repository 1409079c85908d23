"""One round of a federation: the first file to read.

`edge_round` takes one edge's clients to one edge model: tasks, updates, attack, defense.
`global_round` takes edge models to the next State: algorithm, evaluation, record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from fedalign.core.contracts import (
    ROOT,
    Aggregate,
    Algorithm,
    ClientTask,
    Context,
    DataAttack,
    Defense,
    Runtime,
    State,
    UpdateAttack,
    Updates,
    Work,
    Workload,
)
from fedalign.core.errors import ToleranceError
from fedalign.core.seeds import Seeds, derive
from fedalign.core.threat import Knowledge, View
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
    work: Work = Work()
    schedule: Schedule = Schedule()


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
    seconds: Mapping[str, float] = field(default_factory=dict)


def global_round(parts: Federation, state: State) -> tuple[State, Outcome, dict[str, float]]:
    """Play one round. Returns the next state, what the rule saw and decided, and test metrics."""
    members = parts.sampling.draw(parts.seeds.at("sampling", round=state.round + 1))
    outcome = edge_round(parts, state, members)
    aggregate, memory = outcome.aggregate, dict(state.memory)
    model = state.model
    if not aggregate.skipped:
        model, memory["algorithm"] = parts.algorithm.server_step(
            parts.workload, state.model, aggregate, memory.get("algorithm", {})
        )
    memory["edge/0"], memory["attack"] = aggregate.memory, outcome.attack_memory
    began = perf_counter()
    metrics = dict(parts.workload.evaluate(model, "test"))
    if isinstance(parts.attack, DataAttack) and "triggered" in parts.workload.splits:
        metrics["attack_success"] = parts.workload.evaluate(model, "triggered")["accuracy"]
    seconds = {**outcome.seconds, "evaluate": perf_counter() - began}
    after = State(state.round + 1, model, state.model, state.clock_s, memory)
    return after, replace(outcome, seconds=seconds), metrics


def edge_round(parts: Federation, state: State, members: Sequence[int], edge: int = 0) -> Outcome:
    """One edge's clients -> one aggregate update."""
    round, clock = state.round + 1, [perf_counter()]
    active = parts.schedule.active(round) and bool(parts.sampling.attackers)
    honest, poisoned = _train(parts, state, members, edge, active)
    context = _context(parts, state, edge)
    clock.append(perf_counter())
    updates, attack_memory = honest, state.memory.get("attack", {})
    if active and isinstance(parts.attack, UpdateAttack):
        updates, attack_memory = _attack(parts, state, honest, poisoned, context)
    clock.append(perf_counter())
    finite = torch.isfinite(updates.rows).all(dim=1)
    rejected = updates.clients[~finite].tolist()
    if rejected:  # a row with NaN or Inf never reaches a rule, and its sender is a known liar
        updates = _keep(updates, finite)
        left = max(parts.sampling.byzantine_count - len(rejected), 0)
        context = replace(context, byzantine_count=left)
    context = replace(context, clients=updates.clients, weights=updates.samples.double())
    aggregate = _aggregate(parts.defense, updates.rows, context)
    clock.append(perf_counter())
    steps = ("train", "craft", "aggregate")
    seconds = {s: after - before for s, before, after in zip(steps, clock, clock[1:], strict=False)}
    return Outcome(
        updates, context, aggregate, active, attack_memory, rejected, honest.failed, seconds
    )


def _train(
    parts: Federation, state: State, members: Sequence[int], edge: int, active: bool
) -> tuple[Updates, Updates | None]:
    """Everybody trains; attackers that poison data train on it, also or instead."""
    poisons = active and isinstance(parts.attack, DataAttack)
    instead = poisons and not isinstance(parts.attack, UpdateAttack)
    lying = set(parts.sampling.attackers)
    memory = state.memory.get("algorithm", {})
    tasks = [
        ClientTask(
            "train", c, state.round + 1, state.model, parts.work, edge, instead and c in lying
        )
        for c in members
    ]
    tasks = parts.algorithm.assign(tasks, None, memory)
    honest = Updates.concatenate(list(parts.runtime.run(tasks)))
    if not poisons or instead:
        return honest, None
    again = [replace(task, poisoned=True) for task in tasks if task.client in lying]
    if not again:
        return honest, None
    return honest, Updates.concatenate(list(parts.runtime.run(again)))


def _context(parts: Federation, state: State, edge: int) -> Context:
    """What the rule may know; only what it asks for is prepared."""
    needs, round, root = parts.defense.needs, state.round + 1, None
    if "root_update" in needs:
        task = ClientTask("train", ROOT, round, state.model, parts.work)
        root = parts.workload.train([task], [{}])[0].rows[0]
    return Context(
        round=round,
        byzantine_count=parts.sampling.byzantine_count,
        model=state.model,
        previous=state.previous,
        root_update=root,
        evaluate=(lambda v: parts.workload.evaluate(v, "server")) if "evaluate" in needs else None,
        layout=parts.workload.layout,
        rng=derive(parts.secret, "rule", round, edge),
        memory=state.memory.get(f"edge/{edge}", {}),
    )


def _attack(
    parts: Federation, state: State, honest: Updates, poisoned: Updates | None, context: Context
) -> tuple[Updates, Mapping[str, Any]]:
    """Replace the attackers' rows by what they craft from their declared knowledge."""
    lying = torch.isin(honest.clients, torch.tensor(parts.sampling.attackers))
    memory = state.memory.get("attack", {})
    if not lying.any():
        return honest, memory
    knows, own = parts.attack.knowledge, honest.rows[lying]
    rng = parts.seeds.at("attack", round=state.round + 1)
    view = View(
        round=state.round + 1,
        clients=len(honest.clients),
        own=own,
        model=state.model,
        initial=parts.workload.initial(),
        poisoned=_matching(poisoned, honest.clients[lying], own),
        past=state.previous,
        space=parts.defense.space,
        family=parts.defense.family,
        benign=honest.rows[~lying] if Knowledge.UPDATES in knows else None,
        rule=parts.defense if Knowledge.RULE in knows else None,
        context=replace(context, rng=rng) if Knowledge.RULE in knows else None,
        layout=parts.workload.layout,
        rng=rng,
        memory=memory,
    )
    crafted = parts.attack(view)
    rows = honest.rows.clone()
    rows[lying] = crafted.rows.to(rows.dtype)
    return replace(honest, rows=rows), crafted.memory


def _matching(poisoned: Updates | None, clients: Tensor, own: Tensor) -> Tensor | None:
    """Poisoned rows in the order of `clients`; the honest row where the poisoned run failed."""
    if poisoned is None:
        return None
    place = {client: i for i, client in enumerate(poisoned.clients.tolist())}
    rows = [
        poisoned.rows[place[c]] if c in place else own[i] for i, c in enumerate(clients.tolist())
    ]
    return torch.stack(rows)


def _keep(updates: Updates, keep: Tensor) -> Updates:
    return replace(
        updates,
        clients=updates.clients[keep],
        rows=updates.rows[keep],
        samples=updates.samples[keep],
        metrics={name: values[keep] for name, values in updates.metrics.items()},
    )


def _aggregate(rule: Defense, rows: Tensor, context: Context) -> Aggregate:
    """The rule's decision; a round that nobody survives, or that falls below the rule's
    condition because rows were lost, keeps the previous model."""
    nobody = Aggregate(
        torch.zeros_like(context.model),
        torch.zeros(len(rows), dtype=torch.bool),
        skipped=True,
        memory=context.memory,
    )
    if len(rows) == 0:
        return replace(nobody, notes={"skipped": "no usable row arrived"})
    try:
        return rule(rows, context)
    except ToleranceError as error:
        return replace(nobody, notes={"skipped": str(error)})
