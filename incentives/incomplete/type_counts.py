"""TypeCounts: how many of n clients are of each type, with the probability of every case.

Paper: none; the multinomial distribution, enumerated exactly or drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from fedalign.core.errors import ConfigError

MOST = 200_000  # cases enumerated


@dataclass(frozen=True, eq=False)
class TypeCounts:
    """counts: (cases, types) whole numbers or means. weights: (cases,) probabilities, sum 1."""

    counts: np.ndarray
    weights: np.ndarray

    @staticmethod
    def exact(clients: int, probabilities: Sequence[float]) -> TypeCounts:
        """All cases. clients: >= 0. ConfigError above 200,000 cases."""
        from scipy.special import gammaln, xlogy

        p = checked(probabilities)
        cases = comb(clients + len(p) - 1, len(p) - 1)
        if cases > MOST:
            raise ConfigError(
                f"{clients} clients of {len(p)} types make {cases} cases, more than {MOST}: draw a "
                "sample or use a mean field."
            )
        bars = np.array(list(combinations(range(clients + len(p) - 1), len(p) - 1)), dtype=np.int64)
        bars = bars.reshape(cases, len(p) - 1)
        ends = np.full((cases, 1), clients + len(p) - 1)
        counts = np.diff(np.hstack([-np.ones((cases, 1), dtype=np.int64), bars, ends])) - 1
        log = gammaln(clients + 1) - gammaln(counts + 1).sum(axis=1) + xlogy(counts, p).sum(axis=1)
        return TypeCounts(counts.astype(np.float64), np.exp(log))

    @staticmethod
    def sampled(
        clients: int, probabilities: Sequence[float], rng: np.random.Generator, draws: int = 4096
    ) -> TypeCounts:
        """`draws` equally likely cases from `rng`."""
        counts = rng.multinomial(clients, checked(probabilities), size=draws)
        return TypeCounts(counts.astype(np.float64), np.full(draws, 1.0 / draws))

    @staticmethod
    def mean(clients: int, probabilities: Sequence[float]) -> TypeCounts:
        """The certainty equivalent: one case, the expected counts."""
        return TypeCounts(clients * checked(probabilities)[None, :], np.ones(1))


def checked(probabilities: Sequence[float]) -> np.ndarray:
    """Probabilities of types as float64; ConfigError unless >= 0 and summing to 1."""
    p = np.atleast_1d(np.array(probabilities, dtype=np.float64))
    if p.ndim != 1 or not np.isfinite(p).all() or (p < 0).any() or abs(p.sum() - 1) > 1e-9:
        raise ConfigError(f"Probabilities of types must be >= 0 and sum to 1, got {p.tolist()}.")
    return p / p.sum()
