"""ReverseVcgAuction: the cheapest clients train, each paid what the cheapest loser asked.

Paper: following Vickrey, "Counterspeculation, Auctions, and Competitive Sealed Tenders", Journal
of Finance 1961 (k units).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedalign.core.market import Incentive, Market, Offer, Outcome, Payments
from incentives import _checks
from incentives._bids import bids, to_winners
from incentives._settlement import settle
from incentives.payments.reverse_vcg import reverse_vcg


@dataclass(frozen=True)
class ReverseVcgAuction(Incentive):
    """units: clients that train, >= 1, fewer than take part in a round unless there is a reserve.
    reserve: the most base units paid for one, >= 0, or null. cost: [least, most] whole base units
    that the study's work costs a client, private. Losers get no task; vetoed winners no
    pay. Truthful but for the rounding to whole units.
    """

    units: int = 10
    reserve: int | None = None
    cost: Sequence[int] = (20_000, 80_000)

    def __post_init__(self):
        _checks.whole(self, "units", 1)
        if self.reserve is not None:
            _checks.whole(self, "reserve")
        _checks.interval(self, "cost", 0, whole=True)

    def announce(self, market: Market) -> Offer:
        """Who won, at one price."""
        costs = bids(market, self.cost)
        award = reverse_vcg(costs, self.units, self.reserve)
        price = max((float(p) for p in award.payments), default=0.0)
        return to_winners(market, costs, award, {"price": price})

    def settle(self, outcome: Outcome) -> Payments:
        """The price for every accepted update."""
        return settle(outcome, outcome.offer.promised.tolist())
