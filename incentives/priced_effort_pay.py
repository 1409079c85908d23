"""PricedEffortPay: the model owner prices effort, clients answer with as much as suits them.

Paper: following arXiv 2202.10938 (two-stage Stackelberg incentive for blockchain-based federated
learning), without the mining part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fedalign.core.market import Incentive, Market, Offer, Outcome, Payments
from incentives import _checks
from incentives._leader import announced
from incentives._settlement import settle
from incentives.models.model_owner import ModelOwner
from incentives.models.priced_effort import PricedEffort
from incentives.workers import Workers


@dataclass(frozen=True)
class PricedEffortPay(Incentive):
    """A client of quality q earns r q x for effort x and bears a x^2, x <= F; the owner chooses r
    to maximise gain ln(1 + X / scale) - r X, X = sum q x, and knows all types.

    workers: the clients. budget: base units per round, >= 0; caps r so that r X stays within it.
    gain: >= 0, in base units. scale: above 0, in GHz. What vetoed clients were promised is kept.
    """

    workers: Workers
    budget: int = 1_000_000
    gain: float = 2e6
    scale: float = 5.0

    def __post_init__(self):
        _checks.whole(self, "budget")
        _checks.between(self, "gain", 0)
        _checks.between(self, "scale", 1e-9)

    def announce(self, market: Market) -> Offer:
        """The price with its certificate, and every client's best response."""
        types = self.workers.types(market)
        followers = PricedEffort(types.quality, 0.0, types.cost, 1.0, types.capacity)
        found = announced(market, self._leader(followers))
        actions = followers.equilibrium(found.price)
        effort = actions[:, 0]
        return Offer(
            work=self.workers.work(effort),
            prices={"training_price": float(found.price[0])},
            effort=torch.from_numpy(effort),
            seconds=self.workers.seconds(effort, market.samples),
            utility=torch.from_numpy(followers.utility(found.price, actions)),
            promised=torch.from_numpy(followers.payments(found.price, actions)),
            certificate=found.certificate,
            memory=found.memory,
        )

    def settle(self, outcome: Outcome) -> Payments:
        """r q x for accepted updates."""
        offer, promised = outcome.offer, outcome.offer.promised.tolist()
        price = offer.prices["training_price"]
        contributions = [p / price if price > 0 else 0.0 for p in promised]
        return settle(outcome, promised, contributions, outcome.memory)

    def _leader(self, followers: PricedEffort) -> ModelOwner:
        gains, scales = (self.gain, 0.0), (self.scale, 1.0)
        strength = float(followers.strengths().sum(axis=0)[0])  # S: r X <= r^2 S
        ceiling = followers.ceiling(np.array(gains), np.array(scales))[0]
        if strength > 0:
            ceiling = min(ceiling, np.sqrt(self.budget / strength))
        return ModelOwner(followers, gains, scales, ((0.0, ceiling), (0.0, 0.0)))
