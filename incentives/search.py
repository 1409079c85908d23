"""Search: the best price in a box when the payoff has kinks where budgets start to bind.

A grid, logarithmic in each price, then the best starts refined: Brent in one dimension,
Nelder-Mead in more, restarted once because kinks can fold its simplex.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product

import numpy as np

DECADES = 4.0  # of the grid below the upper bound
TIE = 1e-13  # values this near, relative to the best, count as equal

Value = tuple[float, float]  # what the leader earns, what it pays


@dataclass
class Tried:
    """Every price that was asked for, with its value: asked once, answered from memory then."""

    ask: Callable[[np.ndarray], Value]
    found: dict[tuple[float, ...], Value] = field(default_factory=dict)

    def __call__(self, price: np.ndarray) -> float:
        key = tuple(float(p) for p in price)
        if key not in self.found:
            self.found[key] = self.ask(np.array(key))
        return self.found[key][0]

    def best(self) -> tuple[np.ndarray, float]:
        """The price of the highest value; of equals the one that pays least."""
        top = max(value for value, _ in self.found.values())
        near = [
            (payment, price)
            for price, (value, payment) in self.found.items()
            if value >= top - TIE * max(abs(top), 1e-9)
        ]
        price = min(near)[1]
        return np.array(price), self.found[price][0]


def grid(bounds: np.ndarray, points: int) -> Iterator[np.ndarray]:
    """bounds: (p, 2) -> points^p prices, both ends among them."""
    lines = []
    for low, high in bounds:
        start = max(low, high * 10**-DECADES)
        line = np.geomspace(start, high, points - 1) if high > 0 else np.zeros(1)
        lines.append(np.unique(np.concatenate([[low], line])))
    for price in product(*lines):
        yield np.array(price)


def maximise(tried: Tried, bounds: np.ndarray, points: int, starts: int, tol: float) -> None:
    """Fill `tried` with the grid and with the way up from its best `starts` prices."""
    for price in grid(bounds, points):
        tried(price)
    ranked = sorted(tried.found, key=lambda price: -tried.found[price][0])[:starts]
    for price in ranked:
        refine(tried, bounds, np.array(price), tol)


def refine(tried: Tried, bounds: np.ndarray, start: np.ndarray, tol: float) -> None:
    """Climb from `start` inside the box."""
    from scipy.optimize import minimize, minimize_scalar

    wide = bounds[:, 1] > bounds[:, 0]
    if not wide.any():
        return
    if len(bounds) == 1:
        low, high = _bracket(tried, bounds[0], float(start[0]))
        minimize_scalar(lambda r: -tried(np.array([r])), bounds=(low, high), method="bounded",
                        options={"xatol": tol * max(high, 1e-12)})  # fmt: skip
        return
    size = np.where(wide, bounds[:, 1], 1.0)
    for spread in (0.1, 1e-3):
        simplex = np.tile(start / size, (len(bounds) + 1, 1))
        for i in range(len(bounds)):
            step = spread * max(simplex[0, i], 1e-3)
            simplex[i + 1, i] += step if simplex[0, i] + step <= bounds[i, 1] / size[i] else -step
        answer = minimize(
            lambda unit: -tried(np.clip(unit * size, bounds[:, 0], bounds[:, 1])), start / size,
            method="Nelder-Mead", bounds=bounds / size[:, None],
            options={"xatol": tol, "fatol": 1e-14, "initial_simplex": simplex, "maxfev": 400},
        )  # fmt: skip
        start = np.clip(answer.x * size, bounds[:, 0], bounds[:, 1])


def _bracket(tried: Tried, bounds: np.ndarray, start: float) -> tuple[float, float]:
    """The nearest prices already tried on both sides of `start`."""
    known = sorted(price[0] for price in tried.found)
    below = [p for p in known if p < start]
    above = [p for p in known if p > start]
    return (below[-1] if below else bounds[0]), (above[0] if above else bounds[1])
