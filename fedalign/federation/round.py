"""One round of a federation: the first file to read.

`edge_round` takes one edge's clients to one edge model: tasks, updates, attack, defense.
`global_round` takes edge models to the next State: algorithm, evaluation, record. Where there are
several edges, or several edge rounds, what lies between them is in `hierarchy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

import torch
from torch import Tensor

from fedalign.core.contracts import (
    ROOT,
    ClientTask,
    Context,
    DataAttack,
    Memory,
    State,
    UpdateAttack,
    Updates,
)
from fedalign.core.gauge import cross_term, factors
from fedalign.core.market import Offer
from fedalign.core.seeds import derive
from fedalign.core.streams import StreamingDefense
from fedalign.core.vectors import finite
from fedalign.federation import hierarchy, lateness, streaming
from fedalign.federation.adversary import attack
from fedalign.federation.deciding import decide
from fedalign.federation.grouping import regrouped
from fedalign.federation.judging import judged
from fedalign.federation.parts import Federation, Outcome
from fedalign.federation.payment import announce, paid, settle


def global_round(parts: Federation, state: State) -> tuple[State, Outcome, dict[str, float]]:
    """Play one round. Returns the next state, what the rule saw and decided, and test metrics."""
    begin = perf_counter()
    after, outcome = advance(parts, state)
    began = perf_counter()
    metrics = dict(parts.workload.evaluate(after.model, "test"))
    if isinstance(parts.attack, DataAttack) and "triggered" in parts.workload.splits:
        metrics["attack_success"] = parts.workload.evaluate(after.model, "triggered")["accuracy"]
    metrics |= judged(parts, after) | _of_factors(parts, state, outcome)
    done = perf_counter()
    seconds = {**outcome.seconds, "evaluate": done - began, "whole": done - begin}
    return after, replace(outcome, seconds=seconds), metrics


def _of_factors(parts: Federation, before: State, outcome: Outcome) -> dict[str, float]:
    """lora_cross_term, what averaging this round's factors would miss; nothing without factors."""
    layout, rows, decided = parts.workload.layout, outcome.updates.rows, outcome.aggregate
    if decided.skipped or rows.shape[-1:] != (layout.size,) or not factors(layout):
        return {}
    weights = decided.coefficients
    if weights is None:
        weights = outcome.updates.samples * decided.accepted
    kept = weights.cpu() != 0
    rows = rows[kept]
    if not len(rows) or not bool(rows.isfinite().all()):
        return {}
    return {"lora_cross_term": cross_term(rows, before.model.to(rows), weights.cpu()[kept], layout)}


def advance(parts: Federation, state: State) -> tuple[State, Outcome]:
    """The next state, and what the rule saw and decided: a round without its measurements."""
    if parts.topology.flat:
        members = parts.sampling.draw(parts.seeds.at("sampling", round=state.round + 1))
        offer = announce(parts, state, members)
        outcome = edge_round(parts, state, members, offer)
        memory = {**state.memory, **leaves(outcome, 0), "attack": outcome.attack_memory}
    else:
        outcome, memory = _edges(parts, state)
    aggregate, model = outcome.aggregate, state.model
    if not aggregate.skipped:
        model, memory["algorithm"] = parts.algorithm.server_step(
            parts.workload, state.model, aggregate, memory.get("algorithm", {})
        )
    clock_s, verdict = state.clock_s + outcome.span.seconds, outcome.verdict
    payments = settle(parts, state, outcome)
    memory["incentive"] = payments.memory
    if verdict is not None:
        clock_s += 0.0 if verdict.measured else verdict.cost.latency_s
        memory["paid"] = paid(payments)
        if verdict.block is not None:
            memory["chain"] = {"height": verdict.block.height}
    if outcome.offer.seconds is not None and len(outcome.offer.seconds):
        clock_s += float(outcome.offer.seconds.max())  # the round waits for the slowest
    after = regrouped(parts, State(state.round + 1, model, state.model, clock_s, memory))
    return after, replace(outcome, payments=payments)


def _edges(parts: Federation, state: State) -> tuple[Outcome, dict[str, Memory]]:
    """K edge rounds at every edge, then the edge models meet."""
    topology, members = parts.topology, hierarchy.members(parts, state.round + 1)
    offer = announce(parts, state, [client for edge in members for client in edge])
    memory, runs, begin = dict(state.memory), {}, 0
    away = lateness.of_edges(parts, state.round + 1)
    for edge, clients in enumerate(members):
        own = offer.cut(range(begin, begin := begin + len(clients)))
        if away.get(edge) == "gone" or not parts.plays(edge):
            continue  # its devices have nobody to send to, or send to another process
        model, previous, rounds, local = state.model, state.previous, [], parts.at_edge(edge)
        for k in range(topology.edge_rounds):
            known = {**memory, "attack": memory.get(f"attack/{edge}", {})}
            here = State(state.round * topology.edge_rounds + k, model, previous, 0.0, known)
            rounds.append(edge_round(local, here, clients, own, edge))
            memory |= {**leaves(rounds[-1], edge), f"attack/{edge}": rounds[-1].attack_memory}
            if not rounds[-1].aggregate.skipped:
                previous, model = model, model + rounds[-1].aggregate.vector
        runs[edge] = hierarchy.EdgeRun(model, rounds)
    runs |= parts.reports(state)
    return hierarchy.meet(parts, state, members, runs, away, memory, offer)


def edge_round(
    parts: Federation, state: State, members: Sequence[int], offer: Offer, edge: int = 0
) -> Outcome:
    """One edge's clients -> one aggregate update. The rounds of `state` are edge rounds."""
    if isinstance(parts.defense, StreamingDefense):
        return streaming.edge_round(parts, state, members, offer, edge)
    round, clock = state.round + 1, [perf_counter()]
    active = parts.schedule.active(parts.topology.global_round(round))
    active = active and bool(parts.sampling.attackers)
    fates = lateness.of_devices(parts, members, offer, round, edge)
    present = [c for c in members if lateness.trains(parts, fates.get(c))]
    place = {client: i for i, client in enumerate(members)}
    asked = offer.cut([place[client] for client in present])
    honest, poisoned = _train(parts, state, present, asked, edge, active)
    context = _context(parts, state, edge)
    clock.append(perf_counter())
    updates, attack_memory = honest, state.memory.get("attack", {})
    if active and isinstance(parts.attack, UpdateAttack):
        updates, attack_memory = attack(parts, state, honest, poisoned, context, edge)
    clock.append(perf_counter())
    updates, late = lateness.hold_back(parts, updates, fates, round, state.model)
    usable = finite(updates.rows)
    rejected = updates.clients[~usable].tolist()
    if rejected:  # a row with NaN or Inf never reaches a rule, and its sender is a known liar
        updates = lateness.keep(updates, usable)
        left = max(parts.sampling.byzantine_count - len(rejected), 0)
        context = replace(context, byzantine_count=left)
    missing = lateness.missing(parts, members, offer, updates)
    weights = updates.samples.double()
    context = replace(
        context, clients=updates.clients, weights=weights, absent=missing, mask=updates.mask
    )
    aggregate = decide(parts.defense, updates.rows, context)
    clock.append(perf_counter())
    steps = ("train", "craft", "aggregate")
    seconds = {s: after - before for s, before, after in zip(steps, clock, clock[1:], strict=False)}
    arrived = offer.cut([place[client] for client in updates.clients.tolist()])
    span = lateness.of_the_round(parts, members, offer, fates)
    return Outcome(
        updates, context, aggregate, active, attack_memory, rejected, honest.failed, arrived,
        seconds=seconds, late=late, missing=sorted(missing), span=span,
    )  # fmt: skip


def leaves(outcome: Outcome, edge: int) -> dict[str, Memory]:
    """What an edge remembers: its rule's memory, and rows that will arrive next round."""
    kept = {f"edge/{edge}": outcome.aggregate.memory}
    if outcome.late or outcome.context.late:
        kept[f"late/{edge}"] = {c: dict(vars(late)) for c, late in outcome.late.items()}
    return kept


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
        late=lateness.arrived_late(state, str(edge)),
    )
