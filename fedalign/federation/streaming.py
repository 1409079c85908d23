"""A round that streams: rows are added up block by block and let go.

Paper: Bonawitz et al., "Towards Federated Learning at Scale: System Design", MLSys 2019,
Section 4. What is kept per client is its id, its work and its fate, never its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from torch import Tensor

from fedalign.core.contracts import (
    ClientTask,
    Context,
    DataAttack,
    State,
    Updates,
    Work,
)
from fedalign.core.errors import ToleranceError
from fedalign.core.market import Offer
from fedalign.core.seeds import derive
from fedalign.core.streams import Partial, StreamingDefense
from fedalign.core.vectors import finite
from fedalign.federation import lateness
from fedalign.federation.deciding import decide
from fedalign.federation.parts import Federation, Outcome, Streamed


def edge_round(
    parts: Federation, state: State, members: Sequence[int], offer: Offer, edge: int = 0
) -> Outcome:
    """One edge's clients -> one aggregate update; no attack on updates, no late rows, no pay."""
    round, lying = state.round + 1, frozenset(parts.sampling.attackers)
    active = parts.schedule.active(parts.topology.global_round(round)) and bool(lying)
    fates = lateness.of_devices(parts, members, offer, round, edge)
    clients, works = _asked(members, offer, fates)
    poisoned = lying if active and isinstance(parts.attack, DataAttack) else frozenset()
    tasks = parts.algorithm.assign(
        Tasks(clients, works, round, state.model, edge, poisoned),
        None,
        state.memory.get("algorithm", {}),
    )
    context = Context(
        round=round,
        byzantine_count=parts.sampling.byzantine_count,
        model=state.model,
        previous=state.previous,
        layout=parts.workload.layout,
        rng=derive(parts.secret, "rule", round, edge),
        memory=state.memory.get(f"edge/{edge}", {}),
    )
    aggregate, seen, nonfinite, failed, seconds = _summed(parts, tasks, context, lying)
    nobody = torch.zeros(0, dtype=torch.int64)
    updates = Updates(nobody, state.model.new_zeros(0, len(state.model)), nobody)
    aggregate = replace(aggregate, accepted=torch.zeros(0, dtype=torch.bool), coefficients=None)
    seen = replace(seen, missing=sum(w is not None for w in offer.work) - seen.arrived)
    span = lateness.of_the_round(parts, members, offer, fates)
    return Outcome(
        updates, replace(context, clients=nobody, weights=nobody.double()), aggregate, active, {},
        nonfinite, failed, Offer(work=[]), seconds=seconds, span=span, streamed=seen,
    )  # fmt: skip


def _asked(
    members: Sequence[int], offer: Offer, fates: lateness.Fates
) -> tuple[Sequence[int], Sequence[Work]]:
    """Who trains, and how much; of everybody, the lists as they are."""
    if not fates and all(work is not None for work in offer.work):
        return members, offer.work
    pairs = zip(members, offer.work, strict=True)
    kept = [(c, work) for c, work in pairs if work is not None and c not in fates]
    return [c for c, _ in kept], [work for _, work in kept]


def _summed(parts, tasks, context, lying) -> tuple:
    """All blocks, one after the other: the decision, what was seen of rows, what it took."""
    rule: StreamingDefense = parts.defense
    partial, seen, nonfinite, failed = None, Streamed(), [], {}
    begin, adding = perf_counter(), 0.0
    liars = torch.tensor(sorted(lying), dtype=torch.int64)
    for block in parts.runtime.run(tasks) if len(tasks) else ():
        failed |= block.failed
        usable = finite(block.rows)
        if not bool(usable.all()):  # a row with NaN or Inf never reaches a rule
            nonfinite += block.clients[~usable].tolist()
            block = lateness.keep(block, usable)
        if not len(block.clients):
            continue
        before = perf_counter()
        partial = rule.add(
            partial,
            block.rows,
            replace(context, clients=block.clients, weights=block.samples.double()),
        )
        adding += perf_counter() - before
        seen = seen.plus(block, int(torch.isin(block.clients, liars).sum()))
    aggregate = _finish(rule, partial, context)
    seconds = {
        "train": perf_counter() - begin - adding, "craft": 0.0, "aggregate": adding
    }  # fmt: skip
    return aggregate, seen, nonfinite, failed, seconds


def _finish(rule: StreamingDefense, partial: Partial | None, context: Context):
    model: Tensor = context.model
    if partial is None:
        return decide(rule, model.new_zeros(0, len(model)), context)
    try:
        aggregate = rule.finish(partial)
    except ToleranceError:
        return decide(rule, model.new_zeros(0, len(model)), context)
    return replace(aggregate, vector=aggregate.vector.to(model.dtype))


@dataclass(frozen=True)
class Tasks(Sequence[ClientTask]):
    """Tasks made when they are asked for. clients: who trains. works: how much each does.
    poisoned: who trains on the attacker's version of its data."""

    clients: Sequence[int]
    works: Sequence[Work]
    round: int
    vector: Tensor
    edge: int = 0
    poisoned: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.clients)

    def __getitem__(self, place):
        if isinstance(place, slice):
            pairs = zip(self.clients[place], self.works[place], strict=True)
            return [self._task(client, work) for client, work in pairs]
        return self._task(self.clients[place], self.works[place])

    def _task(self, client: int, work: Work) -> ClientTask:
        lies = client in self.poisoned
        return ClientTask("train", client, self.round, self.vector, work, self.edge, lies)
