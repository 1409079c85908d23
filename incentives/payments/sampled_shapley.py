"""SampledShapley: Shapley values from random orders and their reverses, with an interval.

Paper: Castro, Gomez, Tejada, "Polynomial Calculation of the Shapley Value Based on Sampling", 2009,
Section 3; antithetic pairs: Mitchell et al., "Sampling Permutations for Shapley Value Estimation",
JMLR 2022, Section 3; truncation: Ghorbani and Zou, "Data Shapley", ICML 2019, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.payments.coalitions import Coalitions, Worth

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """values (n,); half_width (n,) of the 95 % interval (Student's t over pairs), inf for one
    pair, blind to what truncation leaves out. asked: how many coalitions were valued."""

    values: np.ndarray
    half_width: np.ndarray
    asked: int


def sampled_shapley(
    worth: Worth,
    n: int,
    rng: np.random.Generator,
    pairs: int = 50,
    truncation: float = 0.0,
) -> Estimate:
    """Means over `pairs` >= 1 random orders, each with its reverse.

    truncation: eps_t >= 0, in units of v: once |v(N) - v(S)| < eps_t whoever joins later adds
    nothing; 0 never stops.
    """
    if pairs < 1 or not truncation >= 0:
        raise ConfigError(
            f"Sampled Shapley values need pairs >= 1 and truncation >= 0, got {pairs} and "
            f"{truncation}."
        )
    value, sums = Coalitions(worth), np.zeros((pairs, n))
    for pair in range(pairs):
        order = rng.permutation(n).tolist()
        forth, back = marginals(value, order, truncation), marginals(value, order[::-1], truncation)
        sums[pair] = (forth + back) / 2
    return Estimate(sums.mean(axis=0), _half_width(sums), value.asked)


def marginals(value: Coalitions, order: Sequence[int], truncation: float = 0.0) -> np.ndarray:
    """(n,): what each adds when it joins those before it in `order`; 0 once less than
    `truncation` is left to gain."""
    gains, whole = np.zeros(len(order)), value(order)
    before = value(())
    for joined, player in enumerate(order, start=1):
        if abs(whole - before) < truncation:
            break
        after = value(order[:joined])
        gains[player] = after - before
        before = after
    return gains


def _half_width(sums: np.ndarray) -> np.ndarray:
    pairs = len(sums)
    if pairs == 1:
        return np.full(sums.shape[1], np.inf)
    from scipy.stats import t

    return t.ppf((1 + CONFIDENCE) / 2, pairs - 1) * sums.std(axis=0, ddof=1) / np.sqrt(pairs)
