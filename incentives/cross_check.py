"""CrossCheck: followers solved once more by a convex solver that knows nothing of our formulas.

Source: cvxpy with CLARABEL; one problem with parameters (DPP), solved again for each follower.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from incentives.players import Pieces

FAR = 1e3  # an unlimited follower is searched up to this many times its present size
ACCURACY = 1e-11


@dataclass(frozen=True)
class Solved:
    """actions: (s, k) as the solver says, cut to what is feasible. failed: how many it gave up."""

    actions: np.ndarray
    failed: int


def solve_followers(pieces: Pieces, unit: np.ndarray, scale: np.ndarray) -> Solved:
    """The programs of s followers, one by one. unit: (s,) > 0, the size an action is measured in;
    scale: (s,) > 0, the size of a payoff: the solver sees numbers near 1."""
    import cvxpy

    s, k = pieces.linear.shape
    program = parametrised(k, bool(pieces.bend.any()), bool(pieces.inverse.any()))
    actions, failed = np.full((s, k), np.nan), 0
    for u in range(s):
        one = unit[u]
        values = {
            "linear": pieces.linear[u] * one / scale[u],
            "quadratic": pieces.quadratic[u] * one**2 / scale[u],
            "bend": pieces.bend[u] * one**2 / scale[u],
            "rate": pieces.rate[u] * one,
            "inverse": pieces.inverse[u] / (one * scale[u]),
            "budget": min(pieces.budget[u] / one, FAR),
        }
        for name, parameter in program.parameters.items():
            parameter.value = values[name]
        if not _solved(program.problem, cvxpy):
            failed += 1
            continue
        actions[u] = _cut(program.action.value * one, pieces.budget[u])
    return Solved(actions, failed)


@dataclass(frozen=True)
class Program:
    """A cvxpy problem, its variable (k,) and its parameters by the name of their piece."""

    problem: object
    action: object
    parameters: dict


def parametrised(k: int, bends: bool, inverse: bool) -> Program:
    """The follower's program of `Pieces`; terms that nobody has are left out."""
    import cvxpy as cp

    z = cp.Variable(k)
    names = ["linear", "quadratic", *(["bend", "rate"] if bends else []),
             *(["inverse"] if inverse else [])]  # fmt: skip
    p = {name: cp.Parameter(k, nonneg=name != "linear") for name in names}
    p["budget"] = cp.Parameter(nonneg=True)
    payoff = p["linear"] @ z - p["quadratic"] @ cp.square(z)
    limits = [z >= 0, cp.sum(z) <= p["budget"]]
    if bends:
        below = cp.Variable(k)  # its own variable: a parameter inside the atom would not be DPP
        limits.append(below == 1 + cp.multiply(p["rate"], z))
        payoff -= sum(p["bend"][i] * cp.quad_over_lin(z[i], below[i]) for i in range(k))
    if inverse:
        payoff -= p["inverse"] @ cp.inv_pos(z)
    return Program(cp.Problem(cp.Maximize(payoff), limits), z, p)


def _solved(problem, cvxpy) -> bool:
    """Whether there is an answer; one of less than the asked accuracy is still a deviation."""
    tight = {name: ACCURACY for name in ("tol_gap_abs", "tol_gap_rel", "tol_feas")}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            problem.solve(solver=cvxpy.CLARABEL, **tight)
    except cvxpy.SolverError:
        return False
    return problem.variables()[0].value is not None


def _cut(action: np.ndarray, budget: float) -> np.ndarray:
    action = np.maximum(action, 0.0)
    total = action.sum()
    return action * (budget / total) if total > budget else action
