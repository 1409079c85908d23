"""None: nobody is paid, everybody does the work the study asks for.

Paper: none; the usual assumption of federated learning.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedalign.core.market import Incentive, Market, Offer, Outcome, Payments


@dataclass(frozen=True)
class Unpaid(Incentive):
    """No prices, no payments."""

    def announce(self, market: Market) -> Offer:
        """The study's own work for all."""
        return Offer(work=[market.work] * len(market.clients))

    def settle(self, outcome: Outcome) -> Payments:
        """Nothing."""
        return Payments()
