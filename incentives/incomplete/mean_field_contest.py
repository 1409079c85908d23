"""MeanFieldContest: mining when nobody sees the others' costs, against their average.

Paper: following arXiv 2202.10938, incomplete information;
our derivation. Good for many clients; below 31 take BayesianContest, which is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.incomplete.type_counts import checked


@dataclass(frozen=True, eq=False)
class MeanFieldContest:
    """Each of n clients maximises R y / (y + M) - b y against M = (n - 1) E[y].

    costs: b > 0 of each type. probabilities: of each type. clients: n >= 2.
    """

    costs: Sequence[float]
    probabilities: Sequence[float]
    clients: int

    def __post_init__(self):
        object.__setattr__(self, "probabilities", checked(self.probabilities))
        object.__setattr__(self, "costs", checked_costs(self.costs, self.probabilities))
        contest_of(self.clients)

    def efforts(self, prize: float) -> np.ndarray:
        """(types,) y(b) = max(0, sqrt(R M / b) - M). Proportional to the prize R >= 0."""
        others = prize * self._others()
        return np.maximum(np.sqrt(prize * others / self.costs) - others, 0.0)

    def _others(self) -> float:
        """M / R. With the active types A, cheapest first: M = R (E_A[b^-1/2] / (1/(n-1) + P_A))^2;
        a type is active while b M < R."""
        order = np.argsort(self.costs, kind="stable")
        costs, p = self.costs[order], self.probabilities[order]
        spread, mass = np.cumsum(p / np.sqrt(costs)), np.cumsum(p)
        field = (spread / (1 / (self.clients - 1) + mass)) ** 2
        following = np.append(costs[1:], np.inf)
        return float(field[np.argmax(following * field >= 1)])


def checked_costs(costs: Sequence[float], probabilities: np.ndarray) -> np.ndarray:
    """(types,) float64, finite and above 0, one per probability."""
    values = np.atleast_1d(np.array(costs, dtype=np.float64))
    if values.shape != probabilities.shape or not (np.isfinite(values) & (values > 0)).all():
        raise ConfigError(
            f"A contest of types needs one finite cost above 0 per probability, got "
            f"{values.tolist()} for {len(probabilities)} types."
        )
    return values


def contest_of(clients: int) -> None:
    """ConfigError below two clients: there is no contest."""
    if clients < 2:
        raise ConfigError(f"A contest needs 2 clients or more, got {clients}.")
