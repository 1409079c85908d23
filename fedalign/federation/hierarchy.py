"""Above the edges: whose turn it is, and how edge models become the next global one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from fedalign.core.agreement import Sealed
from fedalign.core.contracts import Aggregate, Context, Late, Memory, State, Updates
from fedalign.core.digest import of_tensor
from fedalign.core.market import Offer, Payments
from fedalign.core.seeds import derive
from fedalign.federation.adversary import attack
from fedalign.federation.clock import Span
from fedalign.federation.deciding import agree
from fedalign.federation.lateness import Fates, arrived_late
from fedalign.federation.parts import Federation, Outcome


@dataclass(frozen=True)
class EdgeRun:
    """An edge's K rounds of one global round: its model (d,) and the outcome of each."""

    model: Tensor
    rounds: Sequence[Outcome]


def members(parts: Federation, round: int) -> list[list[int]]:
    """Clients of every edge in a global round, ascending."""
    found = []
    for edge, clients in enumerate(parts.topology.members(parts.sampling.clients)):
        rng = parts.seeds.at("sampling", round=round, edge=edge)
        found.append([clients[place] for place in parts.at_edge(edge).sampling.draw(rng)])
    return found


def meet(
    parts: Federation,
    state: State,
    who: Sequence[Sequence[int]],
    runs: Mapping[int, EdgeRun],
    away: Fates,
    memory: dict[str, Memory],
    offer: Offer,
) -> tuple[Outcome, dict[str, Memory]]:
    """Edge models -> one outcome of the whole round, and what is remembered."""
    if parts.topology.edges == 1:
        return _alone(parts, state, runs[0] if runs else None, offer), memory
    began = perf_counter()
    meeting = _meeting(parts, state, who, runs, away)
    took = perf_counter() - began
    memory["global"] = meeting.aggregate.memory
    if parts.edge_attackers:
        memory["attack"] = meeting.attack_memory
    if meeting.late or meeting.context.late:
        memory["late/global"] = {e: dict(vars(late)) for e, late in meeting.late.items()}
    last = {edge: run.rounds[-1] for edge, run in runs.items()}
    pooled = Updates.concatenate(
        [o.updates for o in last.values() if len(o.updates.clients)] or [_nobody(state.model)]
    )
    place = {c: i for i, c in enumerate(c for clients in who for c in clients)}
    seconds = {
        step: sum(o.seconds[step] for run in runs.values() for o in run.rounds)
        for step in ("train", "craft", "aggregate")
    }
    outcome = Outcome(
        updates=pooled,
        context=replace(
            meeting.context,
            clients=pooled.clients,
            weights=pooled.samples.double(),
            byzantine_count=parts.sampling.byzantine_count,
        ),
        aggregate=_pooled(parts, meeting, last),
        attacked=meeting.attacked or any(o.attacked for o in last.values()),
        attack_memory={},
        nonfinite=[c for o in last.values() for c in o.nonfinite],
        failed={c: why for o in last.values() for c, why in o.failed.items()},
        offer=offer.cut([place[c] for c in pooled.clients.tolist()]),
        seconds={**seconds, "aggregate": seconds["aggregate"] + took},
        missing=[c for o in last.values() for c in o.missing],
        span=_span(parts, runs, away),
        edges=last,
        runs=runs,
        meeting=meeting,
        verdict=meeting.verdict,
    )
    return outcome, memory


def _alone(parts: Federation, state: State, run: EdgeRun | None, offer: Offer) -> Outcome:
    """One edge, K rounds: what its model moved, with the last round's decisions."""
    last = run.rounds[-1]
    skipped = all(o.aggregate.skipped for o in run.rounds)
    moved = run.model - state.model
    aggregate = replace(last.aggregate, vector=moved, coefficients=None, skipped=skipped)
    steps = last.seconds
    return replace(
        last,
        aggregate=aggregate,
        seconds={step: sum(o.seconds[step] for o in run.rounds) for step in steps},
        span=_total(run),
        edges={0: last},
    )


def _meeting(
    parts: Federation,
    state: State,
    who: Sequence[Sequence[int]],
    runs: Mapping[int, EdgeRun],
    away: Fates,
) -> Outcome:
    """The rule among edge models; an edge none of whose rounds had a result sends nothing."""
    round, rule = state.round + 1, parts.global_defense
    worth = {edge: _worth(parts, clients) for edge, clients in enumerate(who)}
    moved = {
        edge: run.model - state.model
        for edge, run in runs.items()
        if not all(o.aggregate.skipped for o in run.rounds)
    }
    here = [edge for edge in moved if edge not in away or rule.waits]
    late = {
        edge: Late(round, row, state.model)
        for edge, row in moved.items()
        if edge not in here and parts.stragglers.late
    }
    rows = (
        torch.stack([moved[e] for e in here])
        if here
        else state.model.new_zeros(0, len(state.model))
    )
    updates = Updates(
        torch.tensor(here, dtype=torch.int64),
        rows,
        torch.tensor([worth[e] for e in here], dtype=torch.float64),
    )
    context = Context(
        round=round,
        clients=updates.clients,
        weights=updates.samples,
        absent={edge: w for edge, w in worth.items() if edge not in here},
        late=arrived_late(state, "global"),
        byzantine_count=len(parts.edge_attackers),
        model=state.model,
        previous=state.previous,
        root_update=None,
        evaluate=parts.on_the_servers_split() if "evaluate" in rule.needs else None,
        layout=parts.workload.layout,
        rng=derive(parts.secret, "rule", round, "global"),
        memory=state.memory.get("global", {}),
    )
    attacked, told = bool(parts.edge_attackers) and parts.schedule.active(round), {}
    if attacked:
        updates, told = attack(parts.above_edges(), state, updates, None, context)
    whole = parts.played is None
    verdict = agree(parts.consensus, rule, updates, context, sealed(state), whole)
    return Outcome(
        updates, context, verdict.aggregate, attacked, told, (), {}, Offer(work=()), late=late,
        missing=sorted(context.absent), verdict=verdict,
    )  # fmt: skip


def sealed(state: State) -> Sealed:
    """What the next block says of the round before: its model, and what was paid for it."""
    payments = Payments(**state.memory.get("paid", {}))
    return Sealed(bytes.fromhex(of_tensor(state.model)), payments, state.clock_s)


def _worth(parts: Federation, clients: Sequence[int]) -> float:
    weighting = parts.topology.edge_weighting
    if weighting == "samples":
        return float(sum(parts.workload.clients[c].samples for c in clients))
    return float(len(clients)) if weighting == "devices" else 1.0


def _pooled(parts: Federation, meeting: Outcome, last: Mapping[int, Outcome]) -> Aggregate:
    """The global decision, told of the clients; their coefficients are known for K = 1."""
    given = meeting.aggregate.coefficients
    linear = given is not None and parts.topology.edge_rounds == 1
    shares = dict(zip(meeting.updates.clients.tolist(), given, strict=True)) if linear else {}
    rows = [o for o in last.values() if len(o.updates.clients)]
    linear = linear and all(o.aggregate.coefficients is not None for o in rows)
    coefficients = [
        o.aggregate.coefficients * shares.get(edge, 0.0)
        for edge, o in last.items()
        if linear and len(o.updates.clients)
    ]
    notes: dict[str, Any] = {"global": dict(meeting.aggregate.notes)}
    return replace(
        meeting.aggregate,
        accepted=torch.cat([o.aggregate.accepted for o in rows] or [torch.zeros(0).bool()]),
        coefficients=torch.cat(coefficients) if coefficients else None,
        scores=None,
        notes=notes,
    )


def _span(parts: Federation, runs: Mapping[int, EdgeRun], away: Fates) -> Span:
    """The round is over when the edges have met; joules are those of all devices."""
    totals = {edge: _total(run) for edge, run in runs.items()}
    bits = 32.0 * parts.workload.layout.size
    met = parts.clock.meeting(
        {edge: span.seconds for edge, span in totals.items()},
        bits,
        {edge: fate for edge, fate in away.items()},
        parts.global_defense.waits,
    )
    return replace(met, joules=sum(span.joules for span in totals.values()))


def _total(run: EdgeRun) -> Span:
    return Span(sum(o.span.seconds for o in run.rounds), sum(o.span.joules for o in run.rounds))


def _nobody(model: Tensor) -> Updates:
    none = torch.zeros(0, dtype=torch.int64)
    return Updates(none, model.new_zeros(0, len(model)), none)
