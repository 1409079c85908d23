"""TimeSaving: a reward for every second a client is faster than the deadline (model M3).

Paper: following arXiv 2202.10938; our derivation, with the
DVFS reading of energy, kappa C x^2 joules for C Gcycles at x GHz.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from incentives.inputs import Numbers, Range, columns, prices
from incentives.players import Actions, Pieces, excess


@dataclass(frozen=True, eq=False)
class TimeSaving:
    """U = r (tau - C / x) - a x^2 over 0 < x <= F, or 0 for who stays away (x = 0).

    workload: C > 0 in Gcycles. cost: a > 0 per GHz^2. deadline: tau > 0 in seconds. budget: F >= 0
    in GHz. All (n,) or one number. Price: (r,), per second saved. Contribution: seconds saved.
    x* = (r C / (2 a))^(1/3), cut at F; who would lose by it declines, so U >= 0 holds.
    """

    workload: Numbers
    cost: Numbers
    deadline: Numbers
    budget: Numbers = np.inf

    names = ("second_price",)
    parts = ("training",)

    def __post_init__(self):
        columns(self, {
            "workload": Range(open=True), "cost": Range(open=True), "deadline": Range(open=True),
            "budget": Range(infinite=True),
        })  # fmt: skip

    @property
    def n(self) -> int:
        return len(self.budget)

    def obstacle(self, price: np.ndarray) -> str:
        return ""

    def equilibrium(self, price: np.ndarray) -> Actions:
        price = prices(self, price, self.names)
        x = np.cbrt(price[0] * self.workload / (2 * self.cost))  # U is concave: cutting is exact
        x = np.minimum(x, self.budget)[:, None]
        return np.where(self.payoff(price, x, x)[:, None] >= 0, x, 0.0)

    def best_response(
        self, price: np.ndarray, actions: Actions, who: np.ndarray | None = None
    ) -> Actions:
        answer = self.equilibrium(price)  # whatever the others do
        return answer if who is None else answer[who]

    def payoff(
        self, price: np.ndarray, own: np.ndarray, actions: Actions, who: np.ndarray | None = None
    ) -> np.ndarray:
        def of(values: np.ndarray) -> np.ndarray:
            chosen = values if who is None else values[who]
            return chosen.reshape(-1, *[1] * (own.ndim - 2))

        x = own[..., 0]
        works = x > 0
        saved = of(self.deadline) - of(self.workload) / np.where(works, x, 1.0)
        return np.where(works, price[0] * saved - of(self.cost) * x**2, 0.0)

    def utility(self, price: np.ndarray, actions: Actions) -> np.ndarray:
        return self.payoff(prices(self, price, self.names), actions, actions)

    def feasible(self, actions: Actions) -> np.ndarray:
        return excess(actions, self.budget)

    def contributions(self, actions: Actions) -> np.ndarray:
        works = actions > 0
        saved = self.deadline[:, None] - self.workload[:, None] / np.where(works, actions, 1.0)
        return np.where(works, saved, 0.0)

    def payments(self, price: np.ndarray, actions: Actions) -> np.ndarray:
        return self.contributions(actions)[:, 0] * prices(self, price, self.names)[0]

    def ceiling(self, gains: np.ndarray, scales: np.ndarray) -> np.ndarray:
        return gains / scales

    def closed_form(self, gains: np.ndarray, scales: np.ndarray) -> np.ndarray | None:
        return None

    def pieces(self, price: np.ndarray, actions: Actions, who: np.ndarray) -> Pieces:
        none = np.zeros((len(who), 1))
        return Pieces(
            none, self.cost[who, None], none, none, price[0] * self.workload[who, None],
            self.budget[who],
        )  # fmt: skip
