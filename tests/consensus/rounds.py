"""Small rounds for tests of protocols: rows near a common direction, and what they should give."""

from __future__ import annotations

import torch

from defenses.fedavg import FedAvg
from fedalign.core.agreement import Sealed, Verdict
from fedalign.core.contracts import Context, Updates

MEAN = FedAvg(weighting="samples")


def proposals(n: int, round_: int = 1, d: int = 32, late: tuple[int, ...] = ()) -> Updates:
    """Server i holds 10 (i + 1) samples; `late` servers have no row."""
    chance = torch.Generator().manual_seed(round_)
    common = torch.randn(1, d, generator=chance) * 0.01
    rows = common + torch.randn(n, d, generator=chance) * 0.003
    here = torch.tensor([i for i in range(n) if i not in late])
    return Updates(here, rows[here], 10 * (here + 1))


def agree(
    chain, round_: int = 1, rule=MEAN, late=(), d: int = 32, sealed=None, **context
) -> Verdict:
    """One round of `chain` on drawn proposals."""
    updates = proposals(chain.servers, round_, d, late)
    about = Context(
        round=round_, clients=updates.clients, weights=updates.samples.double(), **context
    )
    return chain.agree(updates, rule, about, sealed or Sealed(clock_s=float(round_)))
