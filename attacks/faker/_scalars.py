"""From a row's sums and budgets to its scalars: which closed form, and the check afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attacks.faker import _solvers
from attacks.faker._plane import best_point_beside_frozen, place
from attacks.faker._sums import Sums
from attacks.faker._sybil import family

if TYPE_CHECKING:
    from attacks.faker.faker import Faker

SLACK = 1e-6


@dataclass(frozen=True)
class Budget:
    """What one row may spend. bound: M on |w'|. radius: R on |w' - w|. None: no such budget.

    whole: |w|. signs: (T',) of the distance solver, None for shrinking.
    """

    bound: float | None
    radius: float | None
    whole: float
    signs: np.ndarray | None = None


def alphas(
    plan: Faker, sums: Sums, budget: Budget, attackers: int, rng: np.random.Generator
) -> np.ndarray:
    """(1, T') scalars of one row, or (m, T') for the Sybil family."""
    if plan.solver in ("cosine", "2d"):
        return _planar(plan, sums, budget, attackers, rng)
    even = plan.objective == "relative"
    if plan.solver == "norm":
        alpha = _solvers.norm(sums, budget.bound, plan.a_max, even)
    elif plan.solver == "distance":
        signs = -1.0 if budget.signs is None else budget.signs
        alpha = _solvers.distance(sums, budget.radius, signs, plan.a_max, even)
    elif plan.solver == "product":
        alpha = _solvers.product(sums, budget.bound, plan.a_max)
    else:
        alpha = _balanced(plan, sums, budget, rng)
    return alpha[None]


def step_direction(plan: Faker, sums: Sums, signs: np.ndarray | None) -> tuple[np.ndarray, float]:
    """(alpha - 1) / R of the distance solver, (T',), and the R at which a_max is reached."""
    signs = -1.0 if signs is None else signs
    unit = _solvers.distance(sums, 1.0, signs, None, plan.objective == "relative") - 1
    if plan.a_max is None:
        return unit, float("inf")
    room = np.where(unit < 0, plan.a_max + 1, plan.a_max - 1)
    return unit, float((room / np.abs(unit)).min())


def _planar(plan, sums, budget, attackers, rng) -> np.ndarray:
    if plan.solver == "cosine":  # the norm is kept, whatever the bounds say
        bound, radius, floor = budget.whole, None, budget.whole * (1 - SLACK)
    else:
        bound, radius = budget.bound, budget.radius
        floor = plan.norm_floor * (bound or 0.0)
    p, v = best_point_beside_frozen(
        sums,
        bound=bound,
        radius=radius,
        tau=plan.tau,
        floor=floor,
        even=plan.objective == "relative",
    )
    if plan.sybil_angle is not None:
        return family(sums, p, v, attackers, plan.sybil_angle, rng)
    alpha = place(sums, p, v, plan.a_max)
    kept = (
        (bound is None or sums.norm(alpha) <= bound * (1 + SLACK))
        and (radius is None or sums.distance(alpha) <= radius * (1 + SLACK))
        and sums.cosine(alpha) >= plan.tau - SLACK
        and (plan.a_max is None or np.abs(alpha).max() <= plan.a_max * (1 + SLACK))
    )
    return (alpha if kept else np.ones_like(alpha))[None]  # honest where nothing fits


def _balanced(plan, sums, budget, rng) -> np.ndarray:
    count = len(sums.energies) - 1
    drawn = np.full(count, plan.drawn) if plan.drawn is not None else rng.uniform(-1, 1, count)
    if budget.radius is not None:
        return _solvers.balance(sums, drawn, radius=budget.radius)
    return _solvers.balance(sums, drawn, bound=budget.bound or budget.whole)
