"""UncertainOwner: sets prices knowing only how likely each type of client is.

Paper: following arXiv 2202.10938, incomplete information;
our derivation. Followers of M1 have a dominant strategy, so that only the leader must guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.incomplete.belief import Belief
from incentives.incomplete.type_counts import TypeCounts
from incentives.models.model_owner import ModelOwner
from incentives.models.priced_effort import PricedEffort
from incentives.players import Actions


@dataclass(frozen=True, eq=False)
class UncertainOwner:
    """V = E over type counts of satisfaction minus payments; ModelOwner where one case is sure.

    types: one follower per *type*. counts: how many clients of each type, with probabilities.
    gains, scales: as of ModelOwner. TypeCounts.mean gives the certainty equivalent: it claims
    more than it gets (Jensen).
    """

    types: PricedEffort
    counts: TypeCounts
    gains: Sequence[float]
    scales: Sequence[float]

    def __post_init__(self):
        owner = ModelOwner(self.types, self.gains, self.scales)
        if self.counts.counts.shape[1] != self.types.n:
            raise ConfigError(
                f"UncertainOwner: counts of {self.counts.counts.shape[1]} types, but "
                f"{self.types.n} types answer."
            )
        for name in ("gains", "scales", "bounds"):
            object.__setattr__(self, name, getattr(owner, name))

    def utility(self, price: np.ndarray, actions: Actions) -> float:
        each = self.types.contributions(actions)  # (types, c)
        total = self.counts.counts @ each  # (cases, c)
        satisfied = np.log1p(total / self.scales) @ self.gains
        return float(self.counts.weights @ satisfied - self.payment(price, actions))

    def payment(self, price: np.ndarray, actions: Actions) -> float:
        paid = self.counts.counts @ self.types.payments(price, actions)  # (cases,)
        return float(self.counts.weights @ paid)

    def closed_form(self) -> np.ndarray | None:
        """The root of the first-order condition of each price, where no type's budget binds."""
        strengths = self.types.strengths()
        beliefs = [Belief.of_counts(self.counts, s) for s in strengths.T]
        price = np.array([
            belief.unit_price(gain, scale)
            for belief, gain, scale in zip(beliefs, self.gains, self.scales, strict=True)
        ])  # fmt: skip
        return price if self.types.slack(price) else None
