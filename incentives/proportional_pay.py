"""ProportionalPay: pay in proportion to data, to work asked, or to what the rule thinks of a row.

Paper: none; the usual baseline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from fedalign.core.errors import ConfigError
from fedalign.core.market import Incentive, Market, Offer, Outcome, Payments
from incentives import _checks
from incentives._settlement import VETOED, Vetoed, divide


@dataclass(frozen=True)
class ProportionalPay(Incentive):
    """budget: base units per round, >= 0. by: samples, that a client says it has; effort, the work
    it was asked for (passes times samples, or steps); weight, its coefficient in the aggregate;
    scores, those of the rule, where higher means better (FLTrust, FoolsGold, Zeno). Negative ones
    count as 0; if none is above 0 the shares are equal. vetoed: their shares are divided among the
    accepted (redistribute) or stay with the payer (return).
    """

    budget: int = 1_000_000
    by: Literal["samples", "effort", "weight", "scores"] = "samples"
    vetoed: Vetoed = "redistribute"

    def __post_init__(self):
        _checks.whole(self, "budget")
        _checks.one_of(self, "by", ("samples", "effort", "weight", "scores"))
        _checks.one_of(self, "vetoed", VETOED)

    def announce(self, market: Market) -> Offer:
        """The study's own work for all."""
        asked = market.work
        effort = market.samples.double() * asked.epochs
        if asked.steps is not None:
            effort = torch.full_like(effort, asked.steps)
        return Offer(work=[asked] * len(market.clients), effort=effort)

    def settle(self, outcome: Outcome) -> Payments:
        """Shares by what `by` names."""
        return divide(outcome, self._counted(outcome).tolist(), self.budget, self.vetoed)

    def _counted(self, outcome: Outcome) -> torch.Tensor:  # (n,)
        found = {
            "samples": outcome.updates.samples,
            "effort": outcome.offer.effort,
            "weight": outcome.aggregate.coefficients,
            "scores": outcome.aggregate.scores,
        }[self.by]
        if found is None and not outcome.aggregate.accepted.any():
            return torch.zeros(len(outcome.updates.clients))  # nobody is paid anyway
        if found is None:
            raise ConfigError(
                f"ProportionalPay by {self.by} needs a rule that gives {self.by}; this one does "
                "not: pay by samples, or take a rule such as fltrust."
            )
        return torch.nan_to_num(found.double(), nan=0.0, posinf=0.0, neginf=0.0)
