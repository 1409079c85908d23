"""GtgShapleyPay: Shapley pay that skips rounds and orders in which little is left to gain.

Paper: following Liu et al., "GTG-Shapley: Efficient and Accurate Participant Contribution
Evaluation in Federated Learning", ACM TIST 2022, Algorithm 1.
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
from incentives.payments.gtg_shapley import gtg_shapley, guided


@dataclass(frozen=True)
class GtgShapleyPay(Incentive):
    """budget: base units per round, >= 0; kept in rounds that are skipped or helped by nobody.
    measure: accuracy or loss on the server's split. round_truncation, truncation, tolerance: >= 0,
    see `gtg_shapley`, in units of the measure. orders: >= 1, the most that are tried; null:
    max(30, n) n. history: share of the earlier contribution that counts on, in [0, 1]; 1 sums over
    rounds, 0 pays every round for itself.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"evaluate"})
    budget: int = 1_000_000
    measure: Measure = "loss"
    round_truncation: float = 0.001
    truncation: float = 0.001
    tolerance: float = 0.05
    orders: int | None = None
    history: float = 0.0

    def __post_init__(self):
        _checks.whole(self, "budget")
        _checks.one_of(self, "measure", MEASURES)
        for name in ("round_truncation", "truncation", "tolerance"):
            _checks.between(self, name, 0)
        if self.orders is not None:
            _checks.whole(self, "orders", 1)
        _checks.between(self, "history", 0, 1)

    def announce(self, market: Market) -> Offer:
        """The study's own work for all."""
        return Offer(work=[market.work] * len(market.clients))

    def settle(self, outcome: Outcome) -> Payments:
        """Shares by truncated Shapley values, negative ones clipped at 0."""
        values = partial(self._values, outcome.rng)
        return settle_measured(outcome, values, self.budget, self.measure, self.history)

    def _values(self, rng: np.random.Generator, worth: Worth, n: int) -> np.ndarray:
        return gtg_shapley(
            worth, n, guided(n, rng, self.orders), self.round_truncation, self.truncation,
            self.tolerance,
        )  # fmt: skip
