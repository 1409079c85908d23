"""TrainMineContest: train at a unit price, mine for a share of a block prize (model M2).

Paper: following arXiv 2202.10938 (two-stage Stackelberg incentive for blockchain-based federated
learning); the utility functions are our derivation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.inputs import Numbers, Range, columns, number, prices
from incentives.models.priced_effort import unit_price
from incentives.players import Actions, Pieces, excess
from incentives.social_optimum import Technology

STEPS = 60  # bisections on a budget's multiplier
TINY = 1e-12  # of R / b: with nobody else mining, any effort wins all of the prize


@dataclass(frozen=True, eq=False)
class TrainMineContest:
    """U = r_t q x - a x^2 + R y / (y + Y_others) - b y over x, y >= 0, x + y <= F.

    quality: q >= 0. training_cost: a > 0 per GHz^2. mining_cost: b > 0 per GHz. budget: F >= 0 in
    GHz. All (n,) or one number. reserve: mining power in GHz of the house itself, >= 0; its share
    of the prize is not paid out (0, the paper's game, needs two miners).
    Prices: (r_t, R), per unit of q x and per block. Contributions: (q x, y). The equilibrium is
    unique: given the total Y every action is explicit, and the shares' sum falls in Y.
    """

    quality: Numbers
    training_cost: Numbers
    mining_cost: Numbers
    budget: Numbers = np.inf
    reserve: float = 0.0

    names = ("training_price", "prize")
    parts = ("training", "mining")

    def __post_init__(self):
        columns(self, {
            "quality": Range(), "training_cost": Range(open=True),
            "mining_cost": Range(open=True), "budget": Range(infinite=True),
        })  # fmt: skip
        number(self, "reserve", Range())

    @property
    def n(self) -> int:
        return len(self.budget)

    def obstacle(self, price: np.ndarray) -> str:
        miners = int((self.budget > 0).sum())
        if self.reserve == 0 and price[1] > 0 and miners == 1:
            return (
                "A prize needs a contest: with one miner and no reserve any effort wins it all, "
                "and less effort is always better. Add a miner or set reserve above 0."
            )
        return ""

    def equilibrium(self, price: np.ndarray) -> Actions:
        r_t, prize = prices(self, price, self.names)
        if reason := self.obstacle(np.array([r_t, prize])):
            raise ConfigError(reason)
        free = r_t * self.quality / (2 * self.training_cost)  # (n,) training without a budget
        if prize == 0 or not (self.budget > 0).any():
            x = np.minimum(free, self.budget)
            return np.stack([x, np.zeros_like(x)], axis=1)
        half = 1 / (2 * self.training_cost)
        total = self._total(prize, free, half)
        return np.stack(self._at(total, prize, free, half), axis=1)

    def _total(self, prize: float, free: np.ndarray, half: np.ndarray) -> float:
        """Y with sum_u y_u(Y) + reserve = Y, found in log Y: costs may differ by any factor."""
        from scipy.optimize import brentq

        def surplus(log_total: float) -> float:
            total = np.exp(log_total)
            return (self._at(total, prize, free, half)[1].sum() + self.reserve) / total - 1.0

        high = np.log(prize / self.mining_cost[self.budget > 0].min() + self.reserve)
        low = np.log(self.reserve) if self.reserve > 0 else high - 1.0
        step = 1.0
        while self.reserve == 0 and surplus(low) < 0:
            low, step = low - step, 2 * step
        if surplus(low) <= 0:  # nobody mines against the house
            return float(np.exp(low))
        return float(np.exp(brentq(surplus, low, high, xtol=1e-15, rtol=1e-15)))

    def _at(
        self, total: float, prize: float, free: np.ndarray, half: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Every follower's action that is consistent with the total Y."""
        steep = total * total / prize  # k
        wanted = total - self.mining_cost * steep
        y = np.maximum(wanted, 0.0)
        x = free
        over = free + y > self.budget
        if over.any():
            multiplier = (free + wanted - self.budget) / (half + steep)
            x_bound, y_bound = free - multiplier * half, wanted - multiplier * steep
            no_mining, no_training = y_bound < 0, x_bound < 0
            x_bound = np.where(no_training, 0.0, x_bound)
            y_bound = np.where(no_training, np.minimum(self.budget, y), y_bound)
            x_bound = np.where(no_mining, np.minimum(self.budget, free), x_bound)
            y_bound = np.where(no_mining, 0.0, y_bound)
            x, y = np.where(over, x_bound, x), np.where(over, y_bound, y)
        return x, y

    def best_response(
        self, price: np.ndarray, actions: Actions, who: np.ndarray | None = None
    ) -> Actions:
        r_t, prize = prices(self, price, self.names)
        who = np.arange(self.n) if who is None else np.asarray(who)
        others, budget = self.others(actions)[who], self.budget[who]
        worth, half = r_t * self.quality[who], 0.5 / self.training_cost[who]
        cost = self.mining_cost[who]
        x, y = worth * half, _contest(prize, others, cost)
        bound = np.flatnonzero(x + y > budget)
        if len(bound):
            types = (v[bound] for v in (worth, half, others, cost, budget))
            x[bound], y[bound] = _bisect(prize, *types)
        return np.stack([x, y], axis=1)

    def others(self, actions: Actions) -> np.ndarray:
        """(n,) what all others and the house mine; exact for the largest miner as well."""
        y = actions[:, 1]
        rest = y.sum() - y
        top = int(y.argmax())
        rest[top] = y[:top].sum() + y[top + 1 :].sum()
        return np.maximum(rest, 0.0) + self.reserve

    def payoff(
        self, price: np.ndarray, own: np.ndarray, actions: Actions, who: np.ndarray | None = None
    ) -> np.ndarray:
        def of(values: np.ndarray) -> np.ndarray:
            chosen = values if who is None else values[who]
            return chosen.reshape(-1, *[1] * (own.ndim - 2))

        x, y = own[..., 0], own[..., 1]
        trained = (price[0] * of(self.quality) - of(self.training_cost) * x) * x
        return trained + price[1] * _share(y, of(self.others(actions))) - of(self.mining_cost) * y

    def utility(self, price: np.ndarray, actions: Actions) -> np.ndarray:
        return self.payoff(prices(self, price, self.names), actions, actions)

    def feasible(self, actions: Actions) -> np.ndarray:
        return excess(actions, self.budget)

    def contributions(self, actions: Actions) -> np.ndarray:
        return np.stack([actions[:, 0] * self.quality, actions[:, 1]], axis=1)

    def payments(self, price: np.ndarray, actions: Actions) -> np.ndarray:
        r_t, prize = prices(self, price, self.names)
        y = actions[:, 1]
        return r_t * self.quality * actions[:, 0] + prize * _share(y, self.others(actions))

    def ceiling(self, gains: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """A unit is worth at most g / X0; mining grows at most in proportion to a prize below v."""
        return np.array([gains[0] / scales[0], gains[1]])

    def kappa(self) -> float:
        """Y / R while no budget binds: (|W| - 1) / sum_W b over the cheapest miners W."""
        costs = np.sort(self.mining_cost)
        sums = np.cumsum(costs)
        active = costs * np.arange(len(costs)) < sums  # a prefix: b_m (m - 1) < b_1 + ... + b_m
        last = int(np.flatnonzero(active)[-1])
        return float(last / sums[last])

    def closed_form(self, gains: np.ndarray, scales: np.ndarray) -> np.ndarray | None:
        """R = max(0, v - Y0 / kappa) and the training price of M1, where no budget binds."""
        if self.n < 2 or self.reserve > 0:
            return None
        strength = (self.quality**2 / (2 * self.training_cost)).sum(keepdims=True)
        r_t = unit_price(strength, gains[:1], scales[:1])[0]
        prize = max(0.0, gains[1] - scales[1] / self.kappa())
        price = np.array([r_t, prize])
        return price if self.slack(price) else None

    def slack(self, price: np.ndarray) -> bool:
        """Whether every follower's action in the contest without budgets fits its budget."""
        total = price[1] * self.kappa()
        mined = total * (1 - self.mining_cost * self.kappa())
        trained = price[0] * self.quality / (2 * self.training_cost)
        return bool((trained + np.maximum(mined, 0.0) <= self.budget).all())

    def pieces(self, price: np.ndarray, actions: Actions, who: np.ndarray) -> Pieces | None:
        others = self.others(actions)[who]  # beside nobody a share is no concave function: left out
        rate = np.divide(1.0, others, out=np.zeros_like(others), where=others > TINY**8)
        linear = np.stack(
            [price[0] * self.quality[who], price[1] * rate - self.mining_cost[who]], axis=1
        )
        none = np.zeros_like(linear)
        quadratic = np.stack([self.training_cost[who], none[:, 1]], axis=1)
        bend = np.stack([none[:, 0], price[1] * rate**2], axis=1)
        return Pieces(
            linear, quadratic, bend, np.stack([none[:, 0], rate], axis=1), none, self.budget[who]
        )

    def technology(self) -> Technology:
        """Efforts and their costs, for the social optimum: a prize is a transfer."""
        none = np.zeros(self.n)
        return Technology(
            np.stack([self.quality, none + 1.0], axis=1),
            np.stack([none, self.mining_cost], axis=1),
            np.stack([self.training_cost, none], axis=1),
            self.budget,
        )


def _share(y: np.ndarray, others: np.ndarray) -> np.ndarray:
    total = y + others
    return np.divide(y, total, out=np.zeros(np.shape(total)), where=total > 0)


def _contest(prize: float, others: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """max(0, sqrt(R Y / c) - Y) without its cancellation."""
    if prize == 0:
        return np.zeros_like(others)
    alone = others == 0
    safe = np.where(alone, 1.0, others)
    ratio = prize / (safe * cost)
    y = safe * np.maximum(ratio - 1, 0.0) / (np.sqrt(ratio) + 1)
    return np.where(alone, TINY * prize / cost, y)


def _bisect(prize, worth, half, others, cost, budget) -> tuple[np.ndarray, np.ndarray]:
    """The multiplier at which x + y = F; what is answered never exceeds the budget."""

    def answer(multiplier: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = np.maximum(worth - multiplier, 0.0) * half
        return x, _contest(prize, others, cost + multiplier)

    contested = others > 0
    marginal = np.divide(prize, others, out=np.zeros_like(others), where=contested)
    low, high = np.zeros_like(budget), np.maximum(worth, marginal)  # at `high` both are 0
    for _ in range(STEPS):
        middle = (low + high) / 2
        over = sum(answer(middle)) > budget
        low, high = np.where(over, middle, low), np.where(over, high, middle)
    x, y = answer(high)
    return np.minimum(x, budget), np.minimum(y, np.maximum(budget - x, 0.0))
