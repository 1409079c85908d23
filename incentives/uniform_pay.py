"""UniformPay: everybody whose update is accepted gets the same.

Paper: none; the usual baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedalign.core.market import Incentive, Market, Offer, Outcome, Payments
from incentives import _checks
from incentives._settlement import VETOED, Vetoed, divide


@dataclass(frozen=True)
class UniformPay(Incentive):
    """budget: base units per round, >= 0, for the clients whose rows arrive. vetoed: their shares
    are divided among the accepted (redistribute) or stay with the payer (return)."""

    budget: int = 1_000_000
    vetoed: Vetoed = "redistribute"

    def __post_init__(self):
        _checks.whole(self, "budget")
        _checks.one_of(self, "vetoed", VETOED)

    def announce(self, market: Market) -> Offer:
        """The study's own work for all."""
        return Offer(work=[market.work] * len(market.clients))

    def settle(self, outcome: Outcome) -> Payments:
        """Equal shares."""
        return divide(outcome, [1.0] * len(outcome.updates.clients), self.budget, self.vetoed)
