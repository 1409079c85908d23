"""The attacker's move: a view of exactly what it may know, and rows in place of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fedalign.core.contracts import Context, State, Updates
from fedalign.core.threat import Knowledge, View
from fedalign.federation.parts import Federation


def attack(
    parts: Federation,
    state: State,
    honest: Updates,
    poisoned: Updates | None,
    context: Context,
    edge: int = 0,
) -> tuple[Updates, Mapping[str, Any]]:
    """Replace the attackers' rows by what they craft from their declared knowledge. Attackers at
    different edges draw different numbers. Where this process plays a part of the federation only,
    whom it hears nothing of counts as sending."""
    lying = torch.isin(honest.clients, torch.tensor(parts.sampling.attackers))
    memory = state.memory.get("attack", {})
    if not lying.any():
        return honest, memory
    knows, own = parts.attack.knowledge, honest.rows[lying]
    place = {"edge": edge} if edge else {}
    rng = parts.seeds.at("attack", round=state.round + 1, **place)
    view = View(
        round=state.round + 1,
        clients=len(honest.clients) + (0 if parts.played is None else len(context.absent)),
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
