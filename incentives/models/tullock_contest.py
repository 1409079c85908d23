"""TullockContest: a prize divided in proportion to effort of linear cost.

Paper: following the client incentive of PoFEL, arXiv 2308.07840 (Section 2.5 of our
specification), and Tullock, "Efficient Rent Seeking", 1980.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from incentives.inputs import Numbers, prices
from incentives.models.train_mine_contest import TrainMineContest
from incentives.players import Actions, Pieces


@dataclass(frozen=True, eq=False)
class TullockContest:
    """U = delta y / (y + Y_others) - b y over 0 <= y <= F: TrainMineContest without training.

    cost: b > 0 per unit of effort (data amount x CPU power). budget: F >= 0, in effort. Both (n,)
    or one number. reserve: effort of the house, >= 0. Price: (delta,), the total reward.
    Contribution: y. Effort counted here must come from the committed block: accepted submissions
    only.
    """

    cost: Numbers
    budget: Numbers = np.inf
    reserve: float = 0.0

    names = ("prize",)
    parts = ("effort",)

    def __post_init__(self):
        contest = TrainMineContest(0.0, 1.0, self.cost, self.budget, self.reserve)
        object.__setattr__(self, "_contest", contest)
        object.__setattr__(self, "cost", contest.mining_cost)
        object.__setattr__(self, "budget", contest.budget)
        object.__setattr__(self, "reserve", contest.reserve)

    @property
    def n(self) -> int:
        return self._contest.n

    def obstacle(self, price: np.ndarray) -> str:
        return self._contest.obstacle(self._both(price))

    def equilibrium(self, price: np.ndarray) -> Actions:
        return self._contest.equilibrium(self._both(price))[:, 1:]

    def best_response(
        self, price: np.ndarray, actions: Actions, who: np.ndarray | None = None
    ) -> Actions:
        return self._contest.best_response(self._both(price), _padded(actions), who)[:, 1:]

    def payoff(
        self, price: np.ndarray, own: np.ndarray, actions: Actions, who: np.ndarray | None = None
    ) -> np.ndarray:
        return self._contest.payoff(self._both(price), _padded(own), _padded(actions), who)

    def utility(self, price: np.ndarray, actions: Actions) -> np.ndarray:
        return self._contest.utility(self._both(price), _padded(actions))

    def feasible(self, actions: Actions) -> np.ndarray:
        return self._contest.feasible(_padded(actions))

    def contributions(self, actions: Actions) -> np.ndarray:
        return actions

    def payments(self, price: np.ndarray, actions: Actions) -> np.ndarray:
        return self._contest.payments(self._both(price), _padded(actions))

    def ceiling(self, gains: np.ndarray, scales: np.ndarray) -> np.ndarray:
        return gains

    def closed_form(self, gains: np.ndarray, scales: np.ndarray) -> np.ndarray | None:
        """delta = max(0, v - Y0 / kappa) where no budget binds."""
        both = np.concatenate([[0.0], gains]), np.concatenate([[1.0], scales])
        price = self._contest.closed_form(*both)
        return None if price is None else price[1:]

    def pieces(self, price: np.ndarray, actions: Actions, who: np.ndarray) -> Pieces | None:
        both = self._contest.pieces(self._both(price), _padded(actions), who)
        kept = (v[:, 1:] for v in (both.linear, both.quadratic, both.bend, both.rate, both.inverse))
        return Pieces(*kept, both.budget)

    def _both(self, price: np.ndarray) -> np.ndarray:
        return np.concatenate([[0.0], prices(self, price, self.names)])


def _padded(actions: np.ndarray) -> np.ndarray:
    """No training beside this effort."""
    return np.concatenate([np.zeros_like(actions), actions], axis=-1)
