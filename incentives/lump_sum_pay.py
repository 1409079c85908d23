"""LumpSumPay: the same pay whatever the effort, so that clients do the least that counts.

Paper: none; our derivation (the flat wage of moral hazard, Holmström, "Moral Hazard and
Observability", 1979, as the baseline that effort-based prices must beat).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fedalign.core.market import Incentive, Market, Offer, Outcome, Payments
from incentives import _checks
from incentives._settlement import settle
from incentives.workers import Workers


@dataclass(frozen=True)
class LumpSumPay(Incentive):
    """Every client is promised budget / n. It earns that and bears a x^2 for effort x, so it does
    `least_steps` if that costs it no more than it earns and its capacity allows, else nothing.

    workers: the clients. budget: base units per round, >= 0. least_steps: >= 1 local steps below
    which an update does not count. Promises not taken, and those of vetoed clients, are kept.
    """

    workers: Workers
    budget: int = 1_000_000
    least_steps: int = 1

    def __post_init__(self):
        _checks.whole(self, "budget")
        _checks.whole(self, "least_steps", 1)

    def announce(self, market: Market) -> Offer:
        """The lump sum, and who takes it."""
        types, n = self.workers.types(market), len(market.clients)
        least = self.least_steps / self.workers.steps_per_ghz  # GHz
        wage, cost = self.budget / n, types.cost * least**2
        takes = (wage >= cost) & (types.capacity >= least)
        effort = np.where(takes, least, 0.0)
        return Offer(
            work=self.workers.work(effort),
            prices={"wage": wage},
            effort=torch.from_numpy(effort),
            seconds=self.workers.seconds(effort, market.samples),
            utility=torch.from_numpy(np.where(takes, wage - cost, 0.0)),
            promised=torch.from_numpy(np.where(takes, wage, 0.0)),
        )

    def settle(self, outcome: Outcome) -> Payments:
        """The wage for accepted updates."""
        return settle(outcome, outcome.offer.promised.tolist(), outcome.offer.effort.tolist())
