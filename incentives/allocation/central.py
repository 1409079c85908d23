"""Central check: the whole allocation as one convex programme, solved by somebody else's code.

Paper: following arXiv 2206.02243 (central check); CLARABEL.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.allocation.allocation import Allocation
from incentives.allocation.problem import AllocationProblem


@dataclass(frozen=True)
class Central:
    """Knows nothing of closed forms: variables f1, f2, all f_j (one per server under equal), T.

    tolerance: the solver's, relative and absolute, in (0, 1e-4].
    """

    tolerance: float = 1e-10

    def __post_init__(self):
        if not 0 < self.tolerance <= 1e-4:
            raise ConfigError(f"Central: tolerance must lie in (0, 1e-4], got {self.tolerance}.")

    def __call__(self, problem: AllocationProblem) -> Allocation:
        import cvxpy as cp

        n, cost, kappa = len(problem.servers), problem.cost, problem.kappa
        f1, f2, round_s = cp.Variable(n), cp.Variable(n), cp.Variable()
        energy = cost.training @ cp.square(f1) + cost.consensus @ cp.square(f2)
        finish = cp.multiply(cost.training, cp.inv_pos(f1)) + cp.multiply(
            cost.consensus, cp.inv_pos(f2)
        )
        limits = [finish + cost.communication_s <= round_s]
        if np.isfinite(problem.deadline_s):
            limits.append(round_s <= problem.deadline_s)
        mec = []
        for i, server in enumerate(problem.servers):
            count = len(server.mec)
            used = f1[i] + f2[i]
            g = None
            if count:
                g = (
                    cp.Variable() * np.ones(count)
                    if problem.strategy == "equal"
                    else cp.Variable(count)
                )
                cycles = np.asarray(server.mec, float)
                limits.append(cp.multiply(cycles, cp.inv_pos(g)) <= np.asarray(server.deadlines_s))
                energy = energy + cycles @ cp.square(g)
                used = used + cp.sum(g)
            limits.append(used <= server.capacity)
            mec.append(g)
        programme = cp.Problem(cp.Minimize(kappa * energy + problem.omega * round_s), limits)
        tolerances = ("tol_gap_abs", "tol_gap_rel", "tol_feas")
        with warnings.catch_warnings():  # told where the last digits of 1e-10 are out of reach
            warnings.filterwarnings("ignore", message="Solution may be inaccurate")
            programme.solve(solver=cp.CLARABEL, **dict.fromkeys(tolerances, self.tolerance))
        if round_s.value is None:
            raise ConfigError(f"Central: CLARABEL found no allocation ({programme.status}).")
        frequencies = [np.zeros(0) if g is None else np.atleast_1d(g.value) for g in mec]
        return Allocation(problem, float(round_s.value), f1.value, f2.value, frequencies)
