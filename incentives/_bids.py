"""Bids: what the study's work costs each client, and the offer to those who win an auction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from fedalign.core.market import Market, Offer
from incentives.payments.award import Award
from incentives.workers import drawn


def bids(market: Market, cost: Sequence[int]) -> list[int]:
    """(n,) whole base units, uniform in [least, most]; a client keeps its own over rounds. Truth
    is the best bid in our auctions, so a client bids what it bears."""
    least, most = cost
    return [
        int(drawn(market.seeds, "bid", client).integers(least, most + 1))
        for client in market.clients.tolist()
    ]


def to_winners(
    market: Market, costs: Sequence[int], award: Award, prices: Mapping[str, float]
) -> Offer:
    """The study's own work for winners, none for losers."""
    paid = torch.tensor([float(p) for p in award.payments], dtype=torch.float64)
    won = torch.zeros(len(costs), dtype=torch.bool)
    won[list(award.winners)] = True
    return Offer(
        work=[market.work if wins else None for wins in won.tolist()],
        prices={**prices, "winners": len(award.winners)},
        utility=torch.where(won, paid - torch.tensor(costs, dtype=torch.float64), 0.0),
        promised=paid,
    )
