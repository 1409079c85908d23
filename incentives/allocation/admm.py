"""ADMM: servers propose a round time each, an average and a price make them agree.

Paper: following arXiv 2206.02243, Algorithms 1 (equal) and 2 (on demand); splitting, start and
residual balancing. Scaled consensus form: Boyd et al., "Distributed
Optimization and Statistical Learning via the ADMM", 2011, Sections 3.3, 3.4.1 and 7.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.allocation.allocation import Allocation
from incentives.allocation.bisection import Bisection
from incentives.allocation.problem import MARGIN, AllocationProblem

STEPS = 80  # at most, for one proposal
ROUNDING = 1e-14
BALANCED = 200  # iterations in which rho may change, every BALANCE_EVERY-th
BALANCE_EVERY = 5
IMBALANCE = 5.0


@dataclass(frozen=True)
class Agreed:
    """The answer and how it was reached. primal, dual: residuals per iteration, joules and seconds
    scaled as in the stopping rule (done when both are at most eps). exact: the iteration cap was
    met, and the answer is bisection's."""

    allocation: Allocation
    primal: np.ndarray
    dual: np.ndarray
    exact: bool

    @property
    def iterations(self) -> int:
        return len(self.primal)


@dataclass(frozen=True)
class ADMM:
    """One float per server and iteration travels; the strategy is the problem's.

    eps: > 0, stopping tolerance. most_iterations: >= 1; then bisection answers. rho: None starts
    near the answer with the mean curvature of the servers' energy as penalty, which then follows
    the residuals. A number > 0 is kept fixed, from the deadline (which must be finite) and no
    price, without scaled tolerances: the textbook's run, kept to compare.
    """

    eps: float = 1e-9
    most_iterations: int = 5000
    rho: float | None = None

    def __post_init__(self):
        if not self.eps > 0:
            raise ConfigError(f"ADMM: eps must be above 0, got {self.eps}.")
        if self.most_iterations < 1:
            raise ConfigError(
                f"ADMM: most_iterations must be 1 or more, got {self.most_iterations}."
            )
        if self.rho is not None and not 0 < self.rho < np.inf:
            raise ConfigError(f"ADMM: rho must be above 0 and finite, got {self.rho}.")

    def __call__(self, problem: AllocationProblem) -> Agreed:
        n, omega = len(problem.servers), problem.omega
        z, rho, prices = self._start(problem)
        fixed, primal, dual = self.rho is not None, [], []
        proposed = np.full(n, z)
        for iteration in range(1, self.most_iterations + 1):
            proposed = _propose(problem, z - prices, rho, proposed)
            before = z
            z = min(problem.deadline_s, float((proposed + prices).mean()) - omega / (rho * n))
            prices = prices + proposed - z
            apart, moved = float(np.linalg.norm(proposed - z)), rho * np.sqrt(n) * abs(z - before)
            scale_r = 1.0 if fixed else max(1.0, z)
            scale_d = 1.0 if fixed else max(1.0, omega / n)
            primal.append(apart / (np.sqrt(n) * scale_r))
            dual.append(moved / (np.sqrt(n) * scale_d))
            if primal[-1] <= self.eps and dual[-1] <= self.eps:
                break
            if not fixed and iteration <= BALANCED and iteration % BALANCE_EVERY == 0:
                rho, prices = _balanced(rho, prices, apart * omega / n, moved * z)
        reached = primal[-1] <= self.eps and dual[-1] <= self.eps
        answer = (
            Allocation.at(problem, min(max(z, problem.shortest), problem.deadline_s))
            if reached
            else Bisection()(problem)
        )
        return Agreed(answer, np.array(primal), np.array(dual), not reached)

    def _start(self, problem: AllocationProblem) -> tuple[float, float, np.ndarray]:
        """z, rho and scaled prices: near the answer of servers whose capacity does not bind."""
        cost, n = problem.cost, len(problem.servers)
        if self.rho is not None:
            if np.isinf(problem.deadline_s):
                raise ConfigError("ADMM with a fixed rho starts at deadline_s: make it finite.")
            return problem.deadline_s, self.rho, np.zeros(n)
        cubes = float(((cost.training + cost.consensus) ** 3).sum())
        alone = cost.communication_s.mean() + np.cbrt(2 * cost.kappa * cubes / problem.omega)
        guess = max(1.02 * problem.shortest, float(alone))
        seconds = guess - cost.communication_s
        curvature = 6 * cost.kappa * (cost.training + cost.consensus) ** 3 / seconds**4
        rho = float(curvature.mean())
        return min(guess, problem.deadline_s), rho, np.full(n, problem.omega / (n * rho))


def _propose(
    problem: AllocationProblem, target: np.ndarray, rho: float, near: np.ndarray
) -> np.ndarray:
    """argmin_T E_i(T) + rho / 2 (T - target_i)^2 on T >= fastest_i: the root of the slope."""
    # 80 bisections would do; Newton's steps inside the bracket find the same root.
    cost = problem.cost
    low = cost.fastest * (1 + MARGIN)
    left = np.maximum(low, target)  # the slope is at most 0 here, or low is the answer
    slope = cost.slope(left)
    stays = slope + rho * (left - target) >= 0
    right = left + np.minimum(np.abs(slope), 1e300) / rho
    at, before = near.clip(left, right), right - left
    for _ in range(STEPS):
        slope, bend = cost.derivatives(at)
        rise = slope + rho * (at - target)
        left, right = np.where(rise < 0, at, left), np.where(rise < 0, right, at)
        step = -rise / (bend + rho)
        newton = at + step
        slow = np.abs(step) > np.abs(before) / 2
        after = np.where((newton < left) | (newton > right) | slow, (left + right) / 2, newton)
        before, at = after - at, after
        if (np.abs(before) <= ROUNDING * at).all():
            break
    return np.where(stays, low, at)


def _balanced(
    rho: float, prices: np.ndarray, primal: float, dual: float
) -> tuple[float, np.ndarray]:
    """Double rho where servers disagree more than the average moves, halve it in the other case."""
    if primal > IMBALANCE * dual:
        return 2 * rho, prices / 2
    if dual > IMBALANCE * primal:
        return rho / 2, 2 * prices
    return rho, prices
