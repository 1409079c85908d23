"""TullockPay: a prize for each round, divided in proportion to effort.

Paper: following the client incentive of PoFEL, arXiv 2308.07840 (Section 2.5 of our
specification), and Tullock, "Efficient Rent Seeking", 1980.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

import torch

from fedalign.core.market import Incentive, Market, Offer, Outcome, Payments
from incentives import _checks
from incentives._leader import announced
from incentives._settlement import VETOED, Vetoed, divide
from incentives.models.model_owner import ModelOwner
from incentives.models.tullock_contest import TullockContest
from incentives.workers import Workers


@dataclass(frozen=True)
class TullockPay(Incentive):
    """A client earns prize y / sum y for effort y and bears b y, y <= F; the publisher chooses the
    prize to maximise gain ln(1 + Y / scale) - prize, and knows all types. Who is too dear to
    compete stays away.

    workers: the clients. budget: base units per round, >= 0, the largest prize. gain: >= 0, in base
    units. scale: above 0, in GHz. vetoed: their shares are divided among the accepted
    (redistribute) or stay with the payer (return).
    """

    workers: Workers
    budget: int = 1_000_000
    gain: float = 1e6
    scale: float = 5.0
    vetoed: Vetoed = "redistribute"

    def __post_init__(self):
        _checks.whole(self, "budget")
        _checks.between(self, "gain", 0)
        _checks.between(self, "scale", 1e-9)
        _checks.one_of(self, "vetoed", VETOED)

    def announce(self, market: Market) -> Offer:
        """The prize with its certificate, and the efforts of the contest's equilibrium."""
        types = self.workers.types(market)
        followers = TullockContest(types.cost, types.capacity)
        bounds = ((0.0, float(min(self.budget, self.gain))),)
        leader = ModelOwner(followers, (self.gain,), (self.scale,), bounds)
        found = announced(market, leader)
        actions = followers.equilibrium(found.price)
        effort = actions[:, 0]
        return Offer(
            work=self.workers.work(effort),
            prices={"prize": float(found.price[0])},
            effort=torch.from_numpy(effort.copy()),
            seconds=self.workers.seconds(effort, market.samples),
            utility=torch.from_numpy(followers.utility(found.price, actions)),
            certificate=found.certificate,
            memory=found.memory,
        )

    def settle(self, outcome: Outcome) -> Payments:
        """The prize, whole units of it, by effort."""
        effort, prize = outcome.offer.effort.tolist(), floor(outcome.offer.prices["prize"])
        return divide(outcome, effort, prize, self.vetoed, outcome.memory)
