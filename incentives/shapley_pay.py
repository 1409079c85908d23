"""ShapleyPay: pay for the average worth that a client's update adds to those of others.

Paper: following Wang et al., "A Principled Approach to Data Valuation for Federated Learning", 2020,
Section 4 (federated Shapley value of a round).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from fedalign.core.market import Incentive, Market, Offer, Outcome, Payments
from incentives import _checks
from incentives._measured import settle_measured
from incentives._worth import MEASURES, Measure
from incentives.payments.coalitions import Worth
from incentives.payments.sampled_shapley import sampled_shapley
from incentives.payments.shapley import shapley


@dataclass(frozen=True)
class ShapleyPay(Incentive):
    """budget: base units per round, >= 0; kept where no accepted client helps. measure: accuracy
    or loss on the server's split. pairs: >= 1 random orders, each with its reverse; null is exact,
    for at most 12 accepted clients (2^n evaluations; the sampled one costs at most 2 pairs n).
    truncation: >= 0, an order ends once v is this near to v(N). history: share of the earlier
    contribution that counts on, in [0, 1]; 0 pays every round for itself.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"evaluate"})
    budget: int = 1_000_000
    measure: Measure = "loss"
    pairs: int | None = 10
    truncation: float = 0.0
    history: float = 0.0

    def __post_init__(self):
        _checks.whole(self, "budget")
        _checks.one_of(self, "measure", MEASURES)
        if self.pairs is not None:
            _checks.whole(self, "pairs", 1)
        _checks.between(self, "truncation", 0)
        _checks.between(self, "history", 0, 1)

    def announce(self, market: Market) -> Offer:
        """The study's own work for all."""
        return Offer(work=[market.work] * len(market.clients))

    def settle(self, outcome: Outcome) -> Payments:
        """Shares by Shapley values, negative ones clipped at 0."""
        values = shapley if self.pairs is None else partial(self._sampled, outcome.rng)
        return settle_measured(outcome, values, self.budget, self.measure, self.history)

    def _sampled(self, rng: np.random.Generator, worth: Worth, n: int) -> np.ndarray:
        return sampled_shapley(worth, n, rng, self.pairs, self.truncation).values
