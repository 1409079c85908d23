"""What the PoFEL scenarios share: drawn models, rounds on them, and how a curve is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from consensus.ordering import RaftOrdering
from consensus.protocol import Chain
from defenses.fedavg import FedAvg
from fedalign.core.agreement import Sealed, Verdict
from fedalign.core.contracts import Context, Defense, Updates
from fedalign.core.seeds import Seeds

Row = dict[str, Any]
MEAN = FedAvg(weighting="samples")
# What is asked here depends neither on who orders nor on who computes first.
SIMPLE: Mapping[str, Any] = {
    "ordering": RaftOrdering(), "recompute": False, "measure_cpu": False,
}  # fmt: skip
STEP = 0.01  # typical size of a value of an update


def models(
    n: int,
    d: int,
    seed: int,
    round_: int = 1,
    *,
    spread: Sequence[float] | float = 0.3,
    samples: Sequence[int] | int = 100,
) -> Updates:
    """Updates near a common direction of their round. spread: how far each one is from it, in its
    lengths. samples: of each server."""
    rng = Seeds(seed).at("server_models", round=round_)
    common, own = rng.normal(size=d), rng.normal(size=(n, d))
    rows = STEP * (common + np.broadcast_to(spread, n)[:, None] * own)
    held = torch.from_numpy(np.array(np.broadcast_to(samples, n), dtype=np.int64))
    return Updates(torch.arange(n), torch.from_numpy(rows).float(), held)


def agree(
    chain: Chain, updates: Updates, round_: int = 1, rule: Defense = MEAN, **more: Any
) -> Verdict:
    """One round of `chain`; more: fields of the rule's context."""
    context = Context(
        round=round_, clients=updates.clients, weights=updates.samples.double(), **more
    )
    return chain.agree(updates, rule, context, Sealed(clock_s=float(round_)))


def curve(
    figure: str, panel: str, line: str, x: Sequence[float], y: Sequence[float],
    x_label: str, y_label: str, **more: Any,
) -> Row:  # fmt: skip
    """A row that is drawn."""
    told: Mapping[str, Any] = {
        "figure": figure, "panel": panel, "line": line, "x": [float(v) for v in x],
        "y": [float(v) for v in y], "x_label": x_label, "y_label": y_label,
    }  # fmt: skip
    return {**told, **more}
