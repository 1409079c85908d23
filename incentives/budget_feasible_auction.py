"""BudgetFeasibleAuction: the clients with the most data per cost train, within a budget.

Paper: following Singer, "Budget Feasible Mechanisms", FOCS 2010, Section 3 (proportional share).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedalign.core.market import Incentive, Market, Offer, Outcome, Payments
from incentives import _checks
from incentives._bids import bids, to_winners
from incentives._settlement import settle
from incentives.payments.budget_feasible import budget_feasible


@dataclass(frozen=True)
class BudgetFeasibleAuction(Incentive):
    """budget: base units per round, >= 0, never exceeded. cost: [least, most] whole base units that
    the study's work costs a client, private. A client's value is its samples. Losers get no
    task; vetoed winners no pay. Truthful but for the rounding to whole units.
    """

    budget: int = 1_000_000
    cost: Sequence[int] = (20_000, 80_000)

    def __post_init__(self):
        _checks.whole(self, "budget")
        _checks.interval(self, "cost", 0, whole=True)

    def announce(self, market: Market) -> Offer:
        """Who won, at one rate per sample."""
        costs, values = bids(market, self.cost), market.samples.tolist()
        award = budget_feasible(values, costs, self.budget)
        rates = [float(award.payments[i] / values[i]) for i in award.winners]
        return to_winners(market, costs, award, {"rate": max(rates, default=0.0)})

    def settle(self, outcome: Outcome) -> Payments:
        """Rate times samples for every accepted update."""
        return settle(outcome, outcome.offer.promised.tolist())
