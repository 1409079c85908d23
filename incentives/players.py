"""Players: what a game asks of those who answer prices, and of the one who sets them.

Shapes: n followers, k parts of an action, p prices, c things the leader buys. An action is an
(n, k) array of powers in GHz, a price vector is (p,). `who` picks followers by index, (s,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

Actions = np.ndarray  # (n, k) float64


@dataclass(frozen=True)
class Pieces:
    """What each of s followers maximises while the others stand still, as a concave program.

    sum_i linear_i z_i - quadratic_i z_i^2 - bend_i z_i^2 / (1 + rate_i z_i) - inverse_i / z_i
    over z >= 0, sum_i z_i <= budget. All (s, k) but budget (s,); all but linear are >= 0.
    A prize share R z / (z + Y) is linear R/Y, bend R/Y^2, rate 1/Y: no cancellation.
    """

    linear: np.ndarray
    quadratic: np.ndarray
    bend: np.ndarray
    rate: np.ndarray
    inverse: np.ndarray
    budget: np.ndarray


class FollowerModel(Protocol):
    """n followers who answer prices. Frozen, pure, no (n, n) array."""

    n: int
    names: tuple[str, ...]  # of the prices
    parts: tuple[str, ...]  # of an action
    budget: np.ndarray  # (n,), inf where nothing binds

    def obstacle(self, price: np.ndarray) -> str:
        """Why there is no equilibrium at this price; "" where there is one."""

    def equilibrium(self, price: np.ndarray) -> Actions:
        """The joint answer of all followers."""

    def best_response(
        self, price: np.ndarray, actions: Actions, who: np.ndarray | None = None
    ) -> Actions:
        """The best answer of each of `who` (default all) to the others' actions, exact."""

    def payoff(
        self, price: np.ndarray, own: np.ndarray, actions: Actions, who: np.ndarray | None = None
    ) -> np.ndarray:
        """What each of `who` earns if it alone plays `own` (s, ..., k): (s, ...)."""

    def utility(self, price: np.ndarray, actions: Actions) -> np.ndarray:
        """(n,)"""

    def feasible(self, actions: Actions) -> np.ndarray:
        """(n,) largest violation of a constraint, as a share of the budget where it has one."""

    def contributions(self, actions: Actions) -> np.ndarray:
        """(n, c) what the leader gets from each."""

    def payments(self, price: np.ndarray, actions: Actions) -> np.ndarray:
        """(n,) what the leader pays to each."""

    def ceiling(self, gains: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """(p,) prices above which no leader with that satisfaction gains by going."""

    def closed_form(self, gains: np.ndarray, scales: np.ndarray) -> np.ndarray | None:
        """The leader's best prices where a formula holds, None where its conditions fail."""

    def pieces(self, price: np.ndarray, actions: Actions, who: np.ndarray) -> Pieces | None:
        """The programs of `who`, None where a model has no such form."""


class LeaderProblem(Protocol):
    """The one who announces prices and knows how followers answer."""

    bounds: np.ndarray  # (p, 2)

    def utility(self, price: np.ndarray, actions: Actions) -> float: ...

    def payment(self, price: np.ndarray, actions: Actions) -> float:
        """All that is paid: of equally good prices the leader takes the cheapest."""

    def closed_form(self) -> np.ndarray | None: ...


def excess(actions: Actions, budget: np.ndarray) -> np.ndarray:
    """(n,) how far actions leave z >= 0, sum z <= budget, as a share of the budget."""
    size = np.where(np.isfinite(budget) & (budget > 0), budget, 1.0)
    over = np.where(np.isfinite(budget), actions.sum(axis=1) - budget, 0.0)
    return np.maximum(np.maximum(over, -actions.min(axis=1)), 0.0) / size
