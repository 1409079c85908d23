"""Views of small federations for attack tests: every field can be said, nothing is hidden."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedalign.core.contracts import Context
from fedalign.core.threat import Knowledge, View

ORACLE_ROWS = torch.tensor(
    [
        [np.sin(1 + 1.3 * i + 0.7 * j + 0.11 * i * j) * (3 if i == 6 else 1) for j in range(4)]
        for i in range(7)
    ],
    dtype=torch.float64,
)
"""The matrix of the frozen oracle table: seven rows, the last one three times as long."""


def rows(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def view(own, benign=None, **fields) -> View:
    """A view with a zero model, everybody visible that is given, and a fixed generator."""
    own = own if isinstance(own, Tensor) else rows(own)
    if benign is not None and not isinstance(benign, Tensor):
        benign = rows(benign)
    count = len(own) + (0 if benign is None else len(benign))
    model = fields.pop("model", torch.zeros_like(own[0]))
    given = {"round": 2, "clients": count, "initial": model, "rng": np.random.default_rng(7)}
    return View(own=own, benign=benign, model=model, **{**given, **fields})


def crowd(seed=0, clients=20, attackers=4, columns=300, spread=0.3, **fields) -> View:
    """A realistic round: honest updates around one direction, a model some times as long."""
    generator = torch.Generator().manual_seed(seed)
    model = torch.randn(columns, generator=generator)
    step = 0.2 * torch.randn(columns, generator=generator) - 0.05 * model
    updates = step + spread * 0.2 * torch.randn(clients, columns, generator=generator)
    return view(
        updates[:attackers],
        updates[attackers:],
        model=model,
        context=Context(byzantine_count=attackers, model=model),
        **fields,
    )


def grant(given: View, knowledge: Knowledge) -> View:
    """The view with what `knowledge` does not cover taken away, as the round does it."""
    from dataclasses import replace

    if Knowledge.UPDATES not in knowledge:
        given = replace(given, benign=None)
    if Knowledge.RULE not in knowledge:
        given = replace(given, rule=None, context=None)
    return given
