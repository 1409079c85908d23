"""LeaveOneOutPay: pay for what the model would lose without a client's update.

Paper: the principle of Cook, "Detection of Influential
Observation in Linear Regression", Technometrics 1977.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedalign.core.market import Incentive, Market, Offer, Outcome, Payments
from incentives import _checks
from incentives._measured import settle_measured
from incentives._worth import MEASURES, Measure
from incentives.payments.leave_one_out import leave_one_out


@dataclass(frozen=True)
class LeaveOneOutPay(Incentive):
    """budget: base units per round, >= 0; kept where no accepted client helps. measure: accuracy
    or loss on the server's split. history: share of the earlier contribution that counts on,
    in [0, 1]; 0 pays every round for itself. Costs n + 1 evaluations.

    Copies shield each other: without one of two equal rows nothing is lost.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"evaluate"})
    budget: int = 1_000_000
    measure: Measure = "loss"
    history: float = 0.0

    def __post_init__(self):
        _checks.whole(self, "budget")
        _checks.one_of(self, "measure", MEASURES)
        _checks.between(self, "history", 0, 1)

    def announce(self, market: Market) -> Offer:
        """The study's own work for all."""
        return Offer(work=[market.work] * len(market.clients))

    def settle(self, outcome: Outcome) -> Payments:
        """Shares by max(0, v(N) - v(N without u))."""
        return settle_measured(outcome, leave_one_out, self.budget, self.measure, self.history)
