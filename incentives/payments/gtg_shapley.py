"""GtgShapley: Shapley values of one round's updates, truncated between rounds and within orders.

Paper: Liu et al., "GTG-Shapley: Efficient and Accurate Participant Contribution Evaluation in
Federated Learning", ACM TIST 2022, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.payments.coalitions import Coalitions, Worth
from incentives.payments.sampled_shapley import marginals

WINDOW = 10  # running means that convergence looks back on


def gtg_shapley(
    worth: Worth,
    n: int,
    orders: Iterable[Sequence[int]],
    round_truncation: float = 0.0,
    truncation: float = 0.0,
    tolerance: float = 0.05,
) -> np.ndarray:
    """(n,) float64. worth: v of sub-models rebuilt from the round's updates, nothing is trained.

    orders: of joining, see `guided`. round_truncation: eps_b >= 0, a round that gains less in all
    pays 0. truncation: eps_i >= 0, an order stops once less is left to gain. tolerance: >= 0,
    stop once the running means of the last 10 orders lie within this mean relative distance of
    the latest. With all three 0 and all orders of n these are the exact values.
    """
    _refuse(round_truncation, truncation, tolerance)
    value = Coalitions(worth)
    # Strictly less: with "at most" a bound of 0 would drop orders whose gain is 0 in all only.
    if n == 0 or abs(value(range(n)) - value(())) < round_truncation:
        return np.zeros(n)
    total, means = np.zeros(n), []
    for count, order in enumerate(orders, start=1):
        total += marginals(value, order, truncation)
        means = [*means[1 - WINDOW :], total / count]
        if count >= max(n, WINDOW) and _change(means) < tolerance:
            break
    return means[-1]


def guided(n: int, rng: np.random.Generator, most: int | None = None) -> Iterator[list[int]]:
    """Random orders of n players in which each leads in turn; most: default max(30, n) n."""

    def endless() -> Iterator[list[int]]:
        while True:
            for leader in range(n):
                rest = [player for player in range(n) if player != leader]
                yield [leader, *rng.permutation(rest).tolist()]

    return islice(endless(), max(30, n) * n if most is None else most)


def _change(means: Sequence[np.ndarray]) -> float:
    """The largest mean relative distance of a running mean from the latest."""
    latest = means[-1]
    apart = np.abs(np.array(means) - latest) / (np.abs(latest) + 1e-12)
    return float(apart.mean(axis=1).max())


def _refuse(round_truncation: float, truncation: float, tolerance: float) -> None:
    if not min(round_truncation, truncation, tolerance) >= 0:
        raise ConfigError(
            "GTG-Shapley needs round_truncation, truncation and tolerance of 0 or more, got "
            f"{round_truncation}, {truncation} and {tolerance}."
        )
