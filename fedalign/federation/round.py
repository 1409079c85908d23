"""One round of a federation: the first file to read.

`edge_round` takes one edge's clients to one edge model: tasks, updates, attack, defense.
`global_round` takes edge models to the next State: algorithm, evaluation, record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

import torch
from torch import Tensor

from fedalign.core.contracts import (
    ROOT,
    Aggregate,
    ClientTask,
    Context,
    DataAttack,
    Defense,
    State,
    UpdateAttack,
    Updates,
)
from fedalign.core.errors import ToleranceError
from fedalign.core.market import Offer
from fedalign.core.seeds import derive
from fedalign.federation.adversary import attack
from fedalign.federation.parts import Federation, Outcome
from fedalign.federation.payment import announce, settle


def global_round(parts: Federation, state: State) -> tuple[State, Outcome, dict[str, float]]:
    """Play one round. Returns the next state, what the rule saw and decided, and test metrics."""
    members = parts.sampling.draw(parts.seeds.at("sampling", round=state.round + 1))
    offer = announce(parts, state, members)
    outcome = edge_round(parts, state, members, offer)
    aggregate, memory = outcome.aggregate, dict(state.memory)
    model = state.model
    if not aggregate.skipped:
        model, memory["algorithm"] = parts.algorithm.server_step(
            parts.workload, state.model, aggregate, memory.get("algorithm", {})
        )
    payments = settle(parts, state, outcome)
    memory["edge/0"], memory["attack"] = aggregate.memory, outcome.attack_memory
    memory["incentive"] = payments.memory
    began = perf_counter()
    metrics = dict(parts.workload.evaluate(model, "test"))
    if isinstance(parts.attack, DataAttack) and "triggered" in parts.workload.splits:
        metrics["attack_success"] = parts.workload.evaluate(model, "triggered")["accuracy"]
    seconds = {**outcome.seconds, "evaluate": perf_counter() - began}
    clock_s = state.clock_s
    if outcome.offer.seconds is not None and len(outcome.offer.seconds):
        clock_s += float(outcome.offer.seconds.max())  # the round waits for the slowest
    after = State(state.round + 1, model, state.model, clock_s, memory)
    return after, replace(outcome, payments=payments, seconds=seconds), metrics


def edge_round(
    parts: Federation, state: State, members: Sequence[int], offer: Offer, edge: int = 0
) -> Outcome:
    """One edge's clients -> one aggregate update."""
    round, clock = state.round + 1, [perf_counter()]
    active = parts.schedule.active(round) and bool(parts.sampling.attackers)
    honest, poisoned = _train(parts, state, members, offer, edge, active)
    context = _context(parts, state, edge)
    clock.append(perf_counter())
    updates, attack_memory = honest, state.memory.get("attack", {})
    if active and isinstance(parts.attack, UpdateAttack):
        updates, attack_memory = attack(parts, state, honest, poisoned, context)
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
    place = {client: i for i, client in enumerate(members)}
    arrived = offer.cut([place[client] for client in updates.clients.tolist()])
    return Outcome(
        updates, context, aggregate, active, attack_memory, rejected, honest.failed, arrived,
        seconds=seconds,
    )  # fmt: skip


def _train(
    parts: Federation,
    state: State,
    members: Sequence[int],
    offer: Offer,
    edge: int,
    active: bool,
) -> tuple[Updates, Updates | None]:
    """Who takes part trains; attackers that poison data train on it, also or instead."""
    poisons = active and isinstance(parts.attack, DataAttack)
    instead = poisons and not isinstance(parts.attack, UpdateAttack)
    lying = set(parts.sampling.attackers)
    memory = state.memory.get("algorithm", {})
    tasks = [
        ClientTask("train", c, state.round + 1, state.model, work, edge, instead and c in lying)
        for c, work in zip(members, offer.work, strict=True)
        if work is not None
    ]
    if not tasks:
        return _nobody(state.model), None
    tasks = parts.algorithm.assign(tasks, None, memory)
    honest = Updates.concatenate(list(parts.runtime.run(tasks)))
    if not poisons or instead:
        return honest, None
    again = [replace(task, poisoned=True) for task in tasks if task.client in lying]
    if not again:
        return honest, None
    return honest, Updates.concatenate(list(parts.runtime.run(again)))


def _nobody(model: Tensor) -> Updates:
    none = torch.zeros(0, dtype=torch.int64)
    return Updates(none, model.new_zeros(0, len(model)), none)


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
        evaluate=parts.on_the_servers_split() if "evaluate" in needs else None,
        layout=parts.workload.layout,
        rng=derive(parts.secret, "rule", round, edge),
        memory=state.memory.get(f"edge/{edge}", {}),
    )


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
