"""Who misses a round, what becomes of rows that come too late, and how long the round takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fedalign.core.contracts import Late, State, Updates
from fedalign.core.market import Offer
from fedalign.federation.clock import Span, Untimed
from fedalign.federation.parts import Federation

Fates = dict[int, str]  # member -> "late" (an outage that ends), "slow" or "gone"


def of_devices(
    parts: Federation, members: Sequence[int], offer: Offer, round: int, edge: int
) -> Fates:
    """Devices of an edge that miss its edge round; outages are those of all its devices,
    whoever takes part. Members that cannot be reached in this round are gone."""
    offline = _offline(parts, members, round, edge)
    if parts.stragglers.kind == "none" and isinstance(parts.clock, Untimed):
        return offline
    everybody = parts.topology.members(len(parts.workload.clients))[edge]
    start = parts.stragglers.cold_boot_rounds * parts.topology.edge_rounds + 1
    away = parts.stragglers.away("device", edge, everybody, round, start, parts.seeds)
    how = "late" if parts.stragglers.returns else "gone"
    slow = parts.clock.slow(_loads(parts, members, offer), _bits(parts), parts.seeds)
    found = {u: "slow" for u in members if u in slow} | {u: how for u in members if u in away}
    return found | offline


def _offline(parts: Federation, members: Sequence[int], round: int, edge: int) -> Fates:
    clients = parts.workload.clients
    unsure = {c: p for c in members if (p := clients[c].online) < 1.0}
    if not unsure:
        return {}
    coins = parts.seeds.at("online", round=round, edge=edge).random(len(clients))
    return {c: "gone" for c, p in unsure.items() if coins[c] >= p}


def of_edges(parts: Federation, round: int) -> Fates:
    """Edge servers that miss a global round because of an outage."""
    if parts.topology.edges == 1:  # nobody to miss it
        return {}
    edges, start = range(parts.topology.edges), parts.stragglers.cold_boot_rounds + 1
    away = parts.stragglers.away("edge", 0, edges, round, start, parts.seeds)
    return dict.fromkeys(sorted(away), "late" if parts.stragglers.returns else "gone")


def trains(parts: Federation, fate: str | None) -> bool:
    """Whether a member's row will be of use to anybody."""
    return fate is None or (fate != "gone" and (parts.stragglers.late or parts.defense.waits))


def hold_back(
    parts: Federation, updates: Updates, fates: Fates, round: int, model: Tensor
) -> tuple[Updates, dict[int, Late]]:
    """Rows that come after the deadline do not reach the rule; they arrive in the next round."""
    if not fates or parts.defense.waits:
        return updates, {}
    on_time = torch.tensor([c not in fates for c in updates.clients.tolist()], dtype=torch.bool)
    rows = zip(updates.clients[~on_time].tolist(), updates.rows[~on_time], strict=True)
    late = {c: Late(round, row.clone(), model) for c, row in rows if torch.isfinite(row).all()}
    return keep(updates, on_time), late


def keep(updates: Updates, chosen: Tensor) -> Updates:
    """Some of the rows, (n,) bool."""
    return replace(
        updates,
        clients=updates.clients[chosen],
        rows=updates.rows[chosen],
        samples=updates.samples[chosen],
        mask=None if updates.mask is None else updates.mask[chosen],
        metrics={name: values[chosen] for name, values in updates.metrics.items()},
    )


def missing(
    parts: Federation, members: Sequence[int], offer: Offer, updates: Updates
) -> dict[int, float]:
    """Samples of the members that agreed to take part and have no row."""
    if len(updates.clients) == len(members):
        return {}
    here = set(updates.clients.tolist())
    return {
        c: float(parts.workload.clients[c].samples)
        for c, work in zip(members, offer.work, strict=True)
        if work is not None and c not in here
    }


def arrived_late(state: State, group: str) -> dict[int, Late]:
    """Rows of the round before that were too late for it."""
    return {int(c): Late(**kept) for c, kept in state.memory.get(f"late/{group}", {}).items()}


def of_the_round(parts: Federation, members: Sequence[int], offer: Offer, fates: Fates) -> Span:
    """How long an edge round takes."""
    if isinstance(parts.clock, Untimed):
        return Span()
    loads = _loads(parts, members, offer)
    return parts.clock.edge_round(loads, _bits(parts), fates, parts.defense.waits, parts.seeds)


def _loads(parts: Federation, members: Sequence[int], offer: Offer) -> dict:
    samples = parts.workload.clients
    return {
        c: (work, samples[c].samples)
        for c, work in zip(members, offer.work, strict=True)
        if work is not None
    }


def _bits(parts: Federation) -> float:
    return 32.0 * parts.workload.layout.size
