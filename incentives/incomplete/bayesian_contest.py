"""BayesianContest: the exact equilibrium of mining when nobody sees the others' costs.

Paper: following arXiv 2202.10938, incomplete information;
our derivation: a symmetric Bayesian Nash equilibrium of discrete types over multinomial counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.incomplete.mean_field_contest import MeanFieldContest, checked_costs, contest_of
from incentives.incomplete.type_counts import TypeCounts, checked

MOST_CLIENTS = 30
SWEEPS, STEPS = 500, 62
LEAST = -700.0  # log of the smallest effort, in units of prize / cost


@dataclass(frozen=True, eq=False)
class BayesianContest:
    """y(b) with E[R Y / (y + Y)^2] = b, Y = what the n - 1 others mine, by their random types.

    costs: b > 0 of each type. probabilities: of each type. clients: 2 <= n <= 30.
    Every type mines: with some chance all others are costlier, and a little effort wins much.
    """

    costs: Sequence[float]
    probabilities: Sequence[float]
    clients: int

    def __post_init__(self):
        object.__setattr__(self, "probabilities", checked(self.probabilities))
        object.__setattr__(self, "costs", checked_costs(self.costs, self.probabilities))
        contest_of(self.clients)
        if self.clients > MOST_CLIENTS:
            raise ConfigError(
                f"An exact Bayesian contest takes at most {MOST_CLIENTS} clients, got "
                f"{self.clients}: use MeanFieldContest."
            )

    @cached_property
    def _others(self) -> TypeCounts:
        return TypeCounts.exact(self.clients - 1, self.probabilities)

    def efforts(self, prize: float) -> np.ndarray:
        """(types,) of the equilibrium; proportional to the prize R >= 0."""
        return prize * self._efforts

    @cached_property
    def _efforts(self) -> np.ndarray:
        """At R = 1: each type in turn solves its own condition while the others stay."""
        field = MeanFieldContest(self.costs, self.probabilities, self.clients).efforts(1.0)
        efforts = np.maximum(field, 1e-3 * field.max())
        for _ in range(SWEEPS):
            before = efforts.copy()
            for t in range(len(efforts)):
                efforts[t] = self._alone(t, efforts)
            if (np.abs(efforts - before) <= 1e-14 * efforts).all():
                break
        return efforts

    def _alone(self, t: int, efforts: np.ndarray) -> float:
        """y with E[(c y + s) / ((c + 1) y + s)^2] = b_t, c others of the same type and s from the
        rest: the left side falls in y."""
        counts, weights = self._others.counts, self._others.weights
        same = counts[:, t]
        rest = counts @ efforts - same * efforts[t]
        low, high = LEAST, 0.0
        for _ in range(STEPS):
            middle = (low + high) / 2
            y = np.exp(middle) / self.costs[t]
            rises = weights @ _ratio(same * y + rest, y) > self.costs[t]
            low, high = (middle, high) if rises else (low, middle)
        return float(np.exp(low) / self.costs[t])

    def interim_utility(
        self, prize: float, efforts: np.ndarray, own: np.ndarray | None = None
    ) -> np.ndarray:
        """(types,) what each type expects when it plays `own` (default its effort) and everybody
        else plays `efforts`. Individual rationality: all >= 0."""
        own = efforts if own is None else own
        others = (self._others.counts @ efforts)[:, None]
        total = own + others
        share = np.divide(own, total, out=np.zeros(total.shape), where=total > 0)
        return prize * (self._others.weights @ share) - self.costs * own

    def best_response(self, prize: float, efforts: np.ndarray) -> np.ndarray:
        """(types,) the best effort of each type against `efforts`, by bisection in log effort."""
        low, high = np.full(len(self.costs), LEAST), np.zeros(len(self.costs))
        size = prize / self.costs  # nobody mines for more than the prize
        for _ in range(STEPS):
            middle = (low + high) / 2
            others = (self._others.counts @ efforts)[:, None]  # (cases, 1)
            marginal = self._others.weights @ _ratio(others, size * np.exp(middle))
            rising = prize * marginal > self.costs
            low, high = np.where(rising, middle, low), np.where(rising, high, middle)
        return size * np.exp(low)

    def gap(self, prize: float, efforts: np.ndarray) -> float:
        """The most that a type expects to gain by deviating, relative to the larger of its payoff
        and a thousandth of the mean payoff."""
        earned = self.interim_utility(prize, efforts)
        best = self.interim_utility(prize, efforts, self.best_response(prize, efforts))
        mean = float(np.abs(earned) @ self.probabilities)
        scale = np.maximum(np.maximum(np.abs(earned), 1e-3 * mean), np.finfo(float).tiny)
        return max(0.0, float(((best - earned) / scale).max()))


def _ratio(others: np.ndarray, own: np.ndarray | float) -> np.ndarray:
    """Y / (y + Y)^2, 0 where nobody mines."""
    total = own + others
    safe = np.where(total > 0, total, 1.0)
    return np.where(total > 0, others / safe / safe, 0.0)
