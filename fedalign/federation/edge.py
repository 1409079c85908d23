"""Edge: one edge server's life: its own edge rounds, and what it tells of them.

Paper: none; the deployed form of `round`: nobody plays all edges, they meet in consensus alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fedalign.core.contracts import Aggregate, Context, Late, State, Updates
from fedalign.core.market import Offer
from fedalign.federation.clock import Span
from fedalign.federation.hierarchy import EdgeRun
from fedalign.federation.parts import Federation, Outcome
from fedalign.federation.round import advance

Report = Mapping[str, Any]  # plain data and tensors, as a checkpoint holds them


def play(
    parts: Federation,
    edge: int,
    state: State,
    rounds: int,
    missed: Callable[[], bool],
    after: Callable[[State, Outcome], None],
) -> State:
    """Play global rounds as edge server `edge` until so many are over. missed: whether the others
    have ended the next one without it; then it trains nothing and learns what came out. after:
    called behind every round. Raises QuorumLostError."""
    while state.round < rounds:
        mine = () if missed() else (edge,)
        state, outcome = advance(replace(parts, played=mine), state)
        after(state, outcome)
    return state


def told(run: EdgeRun, whole: bool) -> Report:
    """An edge's rounds for whoever records them. whole: with what the rule saw in the last one, so
    that it can be decided once more."""
    last = run.rounds[-1]
    context, aggregate, updates = last.context, last.aggregate, last.updates
    seen: dict[str, Any] = {"model": context.model, "byzantine_count": context.byzantine_count}
    if whole:
        names = ("previous", "root_update", "memory", "absent")
        seen |= {name: getattr(context, name) for name in names}
        seen |= {"late": {c: dict(vars(late)) for c, late in context.late.items()}}
    names = ("vector", "accepted", "coefficients", "scores", "notes", "skipped")
    names_of_last = ("attacked", "nonfinite", "failed", "missing")
    return {
        "model": run.model,
        "updates": {
            "clients": updates.clients,
            "samples": updates.samples,
            "rows": updates.rows if whole else None,
        },
        "context": seen,
        "aggregate": {name: getattr(aggregate, name) for name in names},
        "last": {name: getattr(last, name) for name in names_of_last},
        "rounds": [
            {"seconds": dict(o.seconds), "span": dict(vars(o.span)), "skipped": o.aggregate.skipped}
            for o in run.rounds
        ],
    }


def heard(report: Report) -> EdgeRun:
    """What `told` told; rows that were not sent stay empty of meaning, but have their shape."""
    sent, seen, model = report["updates"], dict(report["context"]), report["model"]
    clients, rows = sent["clients"], sent["rows"]
    if rows is None:
        rows = model.new_zeros(1, 1).expand(len(clients), len(model))
    updates = Updates(clients, rows, sent["samples"])
    late = {int(c): Late(**row) for c, row in seen.pop("late", {}).items()}
    weights = updates.samples.double()
    context = Context(clients=clients, weights=weights, late=late, **seen)
    aggregate, last = Aggregate(**report["aggregate"]), report["last"]
    rounds = [
        Outcome(
            updates=updates,
            context=context,
            aggregate=replace(aggregate, skipped=one["skipped"]),
            attack_memory={},
            offer=Offer(work=()),
            seconds=one["seconds"],
            span=Span(**one["span"]),
            **last,
        )
        for one in report["rounds"]
    ]
    return EdgeRun(model, rounds)
