"""SocialOptimum: what everybody together could earn if one planner chose all efforts.

Source: cvxpy; welfare = satisfaction - costs, payments cancel. The base of efficiency.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class Technology:
    """What efforts yield and cost, without any payment.

    weights: (n, k), a unit of effort k contributes this much to good k. linear, quadratic:
    (n, k) >= 0, its cost. budget: (n,), inf where nothing binds.
    """

    weights: np.ndarray
    linear: np.ndarray
    quadratic: np.ndarray
    budget: np.ndarray

    def welfare(self, actions: np.ndarray, gains: np.ndarray, scales: np.ndarray) -> float:
        """sum_k gain_k ln(1 + C_k / scale_k) - costs at these efforts (n, k)."""
        total = (self.weights * actions).sum(axis=0)
        cost = (self.linear * actions + self.quadratic * actions**2).sum()
        return float(np.asarray(gains) @ np.log1p(total / np.asarray(scales)) - cost)


def social_optimum(technology: Technology, gains: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The efforts (n, k) of highest welfare. gains: (k,) >= 0. scales: (k,) > 0.

    At the solver's usual accuracy: efforts to about 1e-5, hence welfare to about 1e-9.
    """
    import cvxpy as cp

    gains, scales = np.asarray(gains, dtype=np.float64), np.asarray(scales, dtype=np.float64)
    if (gains < 0).any() or not (scales > 0).all():
        raise ConfigError(
            f"A social optimum needs gains >= 0 and scales > 0, got {gains} and {scales}."
        )
    z = cp.Variable(technology.weights.shape, nonneg=True)
    total = cp.sum(cp.multiply(technology.weights, z), axis=0)
    satisfaction = gains @ cp.log1p(cp.multiply(1 / scales, total))
    cost = cp.sum(cp.multiply(technology.linear, z) + cp.multiply(technology.quadratic, z**2))
    rows = np.flatnonzero(np.isfinite(technology.budget))
    limits = [cp.sum(z[rows], axis=1) <= technology.budget[rows]] if len(rows) else []
    problem = cp.Problem(cp.Maximize(satisfaction - cost), limits)
    problem.solve(solver=cp.CLARABEL)
    if z.value is None:
        raise ConfigError(f"The social optimum was not found: cvxpy says {problem.status}.")
    actions = np.maximum(z.value, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        cut = np.minimum(1.0, np.nan_to_num(technology.budget / actions.sum(axis=1), nan=1.0))
    return actions * cut[:, None]
