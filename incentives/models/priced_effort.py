"""PricedEffort: unit prices for training and mining, effort at quadratic cost (model M1).

Paper: following arXiv 2202.10938 (two-stage Stackelberg incentive for blockchain-based federated
learning); the utility functions are our derivation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from incentives.inputs import Numbers, Range, columns, prices
from incentives.players import Actions, Pieces, excess
from incentives.social_optimum import Technology


@dataclass(frozen=True, eq=False)
class PricedEffort:
    """U = r_t q x - a x^2 + r_m h y - b y^2 over x, y >= 0, x + y <= F: a dominant strategy.

    quality: q >= 0, (n,) or one number. efficiency: h >= 0, of mining. training_cost: a > 0 and
    mining_cost: b > 0, per GHz^2. budget: F >= 0 in GHz, inf where nothing binds.
    Prices: (r_t, r_m), per unit of q x and h y. Contributions: (q x, h y).
    """

    quality: Numbers
    efficiency: Numbers
    training_cost: Numbers
    mining_cost: Numbers
    budget: Numbers = np.inf

    names = ("training_price", "mining_price")
    parts = ("training", "mining")

    def __post_init__(self):
        columns(self, {
            "quality": Range(), "efficiency": Range(),
            "training_cost": Range(open=True), "mining_cost": Range(open=True),
            "budget": Range(infinite=True),
        })  # fmt: skip

    @property
    def n(self) -> int:
        return len(self.budget)

    def obstacle(self, price: np.ndarray) -> str:
        return ""

    def equilibrium(self, price: np.ndarray) -> Actions:
        r_t, r_m = prices(self, price, self.names)
        a, b, budget = self.training_cost, self.mining_cost, self.budget
        x = r_t * self.quality / (2 * a)
        y = r_m * self.efficiency / (2 * b)
        binding = np.flatnonzero(x + y > budget)
        if len(binding):
            x[binding], y[binding] = _shared(x, y, a, b, budget, binding)
        return np.stack([x, y], axis=1)

    def best_response(
        self, price: np.ndarray, actions: Actions, who: np.ndarray | None = None
    ) -> Actions:
        answer = self.equilibrium(price)  # whatever the others do
        return answer if who is None else answer[who]

    def payoff(
        self, price: np.ndarray, own: np.ndarray, actions: Actions, who: np.ndarray | None = None
    ) -> np.ndarray:
        a, b, r_q, r_h = (self._of(v, who, own) for v in (
            self.training_cost, self.mining_cost, price[0] * self.quality,
            price[1] * self.efficiency,
        ))  # fmt: skip
        x, y = own[..., 0], own[..., 1]
        return (r_q - a * x) * x + (r_h - b * y) * y

    def utility(self, price: np.ndarray, actions: Actions) -> np.ndarray:
        return self.payoff(prices(self, price, self.names), actions, actions)

    def feasible(self, actions: Actions) -> np.ndarray:
        return excess(actions, self.budget)

    def contributions(self, actions: Actions) -> np.ndarray:
        return actions * np.stack([self.quality, self.efficiency], axis=1)

    def payments(self, price: np.ndarray, actions: Actions) -> np.ndarray:
        return self.contributions(actions) @ prices(self, price, self.names)

    def ceiling(self, gains: np.ndarray, scales: np.ndarray) -> np.ndarray:
        return gains / scales  # more than the first unit is worth

    def strengths(self) -> np.ndarray:
        """(n, 2): what a follower contributes per unit of price while its budget is slack."""
        return np.stack([
            self.quality**2 / (2 * self.training_cost),
            self.efficiency**2 / (2 * self.mining_cost),
        ], axis=1)  # fmt: skip

    def closed_form(self, gains: np.ndarray, scales: np.ndarray) -> np.ndarray | None:
        """r = (sqrt(X0^2 + 2 S g) - X0) / (2 S), S = sum q^2 / (2 a), where no budget binds.

        No capped answer can do better: what it buys costs less at a lower price uncapped.
        """
        price = unit_price(self.strengths().sum(axis=0), gains, scales)
        return price if self.slack(price) else None

    def slack(self, price: np.ndarray) -> bool:
        """Whether every follower's free optimum fits its budget."""
        x = price[0] * self.quality / (2 * self.training_cost)
        y = price[1] * self.efficiency / (2 * self.mining_cost)
        return bool((x + y <= self.budget).all())

    def pieces(self, price: np.ndarray, actions: Actions, who: np.ndarray) -> Pieces:
        linear = np.stack([price[0] * self.quality, price[1] * self.efficiency], axis=1)[who]
        quadratic = np.stack([self.training_cost, self.mining_cost], axis=1)[who]
        none = np.zeros_like(linear)
        return Pieces(linear, quadratic, none, none, none, self.budget[who])

    def technology(self) -> Technology:
        """Efforts and their costs, for the social optimum."""
        weights = np.stack([self.quality, self.efficiency], axis=1)
        quadratic = np.stack([self.training_cost, self.mining_cost], axis=1)
        return Technology(weights, np.zeros_like(weights), quadratic, self.budget)

    @staticmethod
    def _of(values: np.ndarray, who: np.ndarray | None, own: np.ndarray) -> np.ndarray:
        chosen = values if who is None else values[who]
        return chosen.reshape(-1, *[1] * (own.ndim - 2))


def unit_price(strength: np.ndarray, gains: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """(c,) the best unit prices where contributions are `strength` times the price."""
    root = np.sqrt(scales**2 + 2 * strength * np.maximum(gains, 0.0))
    return np.where((gains > 0) & (strength > 0), gains / (scales + root), 0.0)  # no cancellation


def _shared(x, y, a, b, budget, rows) -> tuple[np.ndarray, np.ndarray]:
    """A binding budget: one multiplier takes the same marginal value from both parts."""
    x, y, a, b, budget = x[rows], y[rows], a[rows], b[rows], budget[rows]
    multiplier = (x + y - budget) / (1 / (2 * a) + 1 / (2 * b))
    trained = np.where(multiplier > 2 * b * y, budget, x - multiplier / (2 * a))
    trained = np.where(multiplier > 2 * a * x, 0.0, trained)
    trained = np.clip(trained, 0.0, budget)
    return trained, budget - trained
