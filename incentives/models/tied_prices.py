"""TiedPrices: one price for everything, the baseline against which separate prices must pay.

Paper: none; our derivation (the uniform rule of the mechanism table, arXiv 2202.10938 setting).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from incentives.inputs import prices
from incentives.players import Actions, FollowerModel, Pieces


@dataclass(frozen=True, eq=False)
class TiedPrices:
    """The market `followers` when all its prices must be equal. Price: (r,)."""

    followers: FollowerModel

    names = ("price",)

    @property
    def n(self) -> int:
        return self.followers.n

    @property
    def parts(self) -> tuple[str, ...]:
        return self.followers.parts

    @property
    def budget(self) -> np.ndarray:
        return self.followers.budget

    def obstacle(self, price: np.ndarray) -> str:
        return self.followers.obstacle(self._spread(price))

    def equilibrium(self, price: np.ndarray) -> Actions:
        return self.followers.equilibrium(self._spread(price))

    def best_response(
        self, price: np.ndarray, actions: Actions, who: np.ndarray | None = None
    ) -> Actions:
        return self.followers.best_response(self._spread(price), actions, who)

    def payoff(
        self, price: np.ndarray, own: np.ndarray, actions: Actions, who: np.ndarray | None = None
    ) -> np.ndarray:
        return self.followers.payoff(self._spread(price), own, actions, who)

    def utility(self, price: np.ndarray, actions: Actions) -> np.ndarray:
        return self.followers.utility(self._spread(price), actions)

    def feasible(self, actions: Actions) -> np.ndarray:
        return self.followers.feasible(actions)

    def contributions(self, actions: Actions) -> np.ndarray:
        return self.followers.contributions(actions)

    def payments(self, price: np.ndarray, actions: Actions) -> np.ndarray:
        return self.followers.payments(self._spread(price), actions)

    def ceiling(self, gains: np.ndarray, scales: np.ndarray) -> np.ndarray:
        return self.followers.ceiling(gains, scales).max(keepdims=True)

    def closed_form(self, gains: np.ndarray, scales: np.ndarray) -> np.ndarray | None:
        return None

    def pieces(self, price: np.ndarray, actions: Actions, who: np.ndarray) -> Pieces | None:
        return self.followers.pieces(self._spread(price), actions, who)

    def _spread(self, price: np.ndarray) -> np.ndarray:
        return np.repeat(prices(self, price, self.names), len(self.followers.names))
