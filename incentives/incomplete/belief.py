"""Belief: a distribution of the market's strength, and the best price against it.

Paper: following arXiv 2202.10938, incomplete information;
our derivation. Strength: total contribution = strength x price (M1), or x prize (M2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.incomplete.type_counts import TypeCounts


@dataclass(frozen=True, eq=False)
class Belief:
    """strengths: (m,) >= 0 and finite. weights: (m,) >= 0, their probabilities."""

    strengths: np.ndarray
    weights: np.ndarray

    def __post_init__(self):
        strengths, weights = (np.array(v, dtype=np.float64) for v in (self.strengths, self.weights))
        if strengths.shape != weights.shape or strengths.ndim != 1 or not strengths.size:
            raise ConfigError(
                f"A belief needs one weight per strength, got {strengths.shape} strengths and "
                f"{weights.shape} weights."
            )
        for name, values in {"strengths": strengths, "weights": weights}.items():
            if not np.isfinite(values).all() or (values < 0).any():
                raise ConfigError(f"A belief's {name} must be finite and >= 0, got {values.min()}.")
            object.__setattr__(self, name, values)
        if not weights.sum() > 0:
            raise ConfigError("A belief's weights must not all be 0.")
        object.__setattr__(self, "weights", weights / weights.sum())

    @staticmethod
    def of_counts(counts: TypeCounts, strengths: np.ndarray) -> Belief:
        """strengths: (types,), what one client of each type adds."""
        return Belief(counts.counts @ np.asarray(strengths, dtype=np.float64), counts.weights)

    @staticmethod
    def quadrature(
        strength: Callable[[np.ndarray], np.ndarray],
        density: Callable[[np.ndarray], np.ndarray],
        low: float,
        high: float,
        nodes: int = 64,
    ) -> Belief:
        """A one-dimensional family of types on [low, high], by Gauss and Legendre."""
        if not (np.isfinite([low, high]).all() and low < high) or nodes < 1:
            raise ConfigError(f"Quadrature needs finite low < high, got [{low}, {high}].")
        points, weights = np.polynomial.legendre.leggauss(nodes)
        at = low + (high - low) * (points + 1) / 2
        return Belief(strength(at), weights * density(at))

    @staticmethod
    def sampled(
        draw: Callable[[np.random.Generator, int], np.ndarray],
        rng: np.random.Generator,
        draws: int = 4096,
    ) -> Belief:
        """draw: (rng, count) -> (count,) strengths, equally likely."""
        return Belief(draw(rng, draws), np.ones(draws))

    @property
    def mean(self) -> float:
        return float(self.strengths @ self.weights)

    def certain(self) -> Belief:
        """The certainty equivalent: the mean strength, for sure."""
        return Belief(np.array([self.mean]), np.ones(1))

    def unit_value(self, price: float, gain: float, scale: float) -> float:
        """E[g ln(1 + r S / X0)] - r^2 E[S]: followers are paid r per unit of contribution r S."""
        return float(
            gain * self.weights @ np.log1p(price * self.strengths / scale) - price**2 * self.mean
        )

    def unit_price(self, gain: float, scale: float) -> float:
        """The root of E[g S / (X0 + r S)] = 2 r E[S]; 0 where nothing is worth paying."""
        return self._root(gain, scale, lambda price: 2 * price * self.mean)

    def prize_value(self, prize: float, gain: float, scale: float) -> float:
        """E[v ln(1 + R S / Y0)] - R: the prize is paid whatever is mined."""
        satisfied = gain * self.weights @ np.log1p(prize * self.strengths / scale)
        return float(satisfied - prize)

    def prize(self, gain: float, scale: float) -> float:
        """The root of E[v S / (Y0 + R S)] = 1, at least 0."""
        return self._root(gain, scale, lambda prize: 1.0)

    def _root(self, gain: float, scale: float, cost: Callable[[float], float]) -> float:
        from scipy.optimize import brentq

        def slope(price: float) -> float:
            worth = self.strengths / (scale + price * self.strengths)
            return gain * float(self.weights @ worth) - cost(price)

        if gain <= 0 or self.mean == 0 or slope(0.0) <= 0:
            return 0.0
        high = 1.0
        while slope(high) > 0:
            high *= 2.0
        return float(brentq(slope, 0.0, high, xtol=1e-15, rtol=1e-14))
