"""Games: our equilibria against cvxpy, one problem per follower and all in one problem.

Rivals solve the same followers. Where a rival is too slow for all of them it runs on a sample,
and its time is extrapolated in proportion and labelled so.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from fedalign.core.seeds import Seeds
from incentives.certificate import certify_followers
from incentives.cross_check import parametrised
from incentives.game import solve
from incentives.models.model_owner import ModelOwner
from incentives.models.priced_effort import PricedEffort
from incentives.models.train_mine_contest import TrainMineContest

PRICED, CONTEST = np.array([1.0, 1.0]), np.array([1.0, 6.0])
GOAL_MS, GOAL_EACH, GOAL_STACKED, GOAL_CONTEST_S = 50.0, 5000.0, 3.0, 1.0
LARGE = 100_000  # followers from which the goals count


def measure(n: int, sample: int, stacked: int, repetitions: int) -> list[dict[str, Any]]:
    """n: followers. sample: how many cvxpy solves one by one. stacked: how many in one problem;
    0 leaves it out. repetitions: >= 1, the least time counts. Rows of three tables."""
    market, contest = _markets(n)
    ours_s, actions = _best(lambda: market.equilibrium(PRICED), repetitions)
    large = n >= LARGE
    rows = [_row("ours, closed form", n, ours_s, goal="< 50 ms" if large else None,
                 met=ours_s * 1e3 < GOAL_MS if large else None)]  # fmt: skip
    rows.append(_one_by_one(market, actions, n, min(sample, n), ours_s, large))
    if stacked:
        rows.append(_all_in_one(market, actions, n, min(stacked, n), ours_s, repetitions, large))
    return rows + _contest(contest, repetitions, large)


def _markets(n: int) -> tuple[PricedEffort, TrainMineContest]:
    rng = Seeds(0).at("benchmark_followers", n=n)
    quality, efficiency = rng.uniform(0.5, 1.0, (2, n))
    a, b, budget = (rng.uniform(low, high, n) for low, high in ((0.2, 0.6), (0.4, 0.8), (0.1, 3.0)))
    return PricedEffort(quality, efficiency, a, b, budget), TrainMineContest(quality, a, b, budget)


def _one_by_one(market, actions, n, sample, ours_s, large) -> dict[str, Any]:
    """A parametrised problem, compiled once, solved again for each follower of a sample."""
    import cvxpy as cp

    who = np.linspace(0, n - 1, sample).astype(int)
    pieces = market.pieces(PRICED, actions, who)
    program = parametrised(2, bends=False, inverse=False)
    found = np.empty((sample, 2))

    def one(row: int) -> None:
        for name in ("linear", "quadratic", "budget"):
            program.parameters[name].value = getattr(pieces, name)[row]
        program.problem.solve(solver=cp.CLARABEL)
        found[row] = program.action.value

    one(0)  # compiled once
    begin = perf_counter()
    for row in range(sample):
        one(row)
    seconds = (perf_counter() - begin) * n / sample
    how = f"extrapolated from {sample}" if sample < n else "measured"
    return _row("cvxpy, one problem per follower", n, seconds, how, ours_s,
                np.abs(found - actions[who]).max(), f">= {GOAL_EACH:g}x" if large else None,
                seconds / ours_s >= GOAL_EACH if large else None)  # fmt: skip


def _all_in_one(market, actions, n, stacked, ours_s, repetitions, large) -> dict[str, Any]:
    """One cvxpy problem over `stacked` followers; compiling counts, as it is built per price."""
    import cvxpy as cp

    who = np.arange(stacked)
    pieces = market.pieces(PRICED, actions, who)

    def solved() -> np.ndarray:
        z = cp.Variable((stacked, 2), nonneg=True)
        cost = cp.sum(cp.multiply(pieces.quadratic, cp.square(z)))
        payoff = cp.sum(cp.multiply(pieces.linear, z)) - cost
        problem = cp.Problem(cp.Maximize(payoff), [cp.sum(z, axis=1) <= pieces.budget])
        problem.solve(solver=cp.CLARABEL)
        return z.value

    seconds, found = _best(solved, min(repetitions, 2))
    seconds *= n / stacked
    how = f"extrapolated from {stacked}" if stacked < n else "measured"
    return _row("cvxpy, one stacked problem", n, seconds, how, ours_s,
                np.abs(found - actions[who]).max(), f">= {GOAL_STACKED:g}x" if large else None,
                seconds / ours_s >= GOAL_STACKED if large else None)  # fmt: skip


def _contest(contest: TrainMineContest, repetitions: int, large: bool) -> list[dict[str, Any]]:
    """The joint equilibrium at given prices, its certificate, and the owner's price by formula."""
    joint_s, actions = _best(lambda: contest.equilibrium(CONTEST), repetitions)
    proof_s, proof = _best(lambda: certify_followers(contest, CONTEST, actions), repetitions)
    total = joint_s + proof_s
    n = contest.n
    free = TrainMineContest(contest.quality, contest.training_cost, contest.mining_cost)
    owner = ModelOwner(free, (2.0 * n, 10.0 * n), (1.0, 1.0))
    price_s, _ = _best(owner.closed_form, repetitions)
    rows = [
        ("joint equilibrium", joint_s, None, None),
        ("followers' certificate", proof_s, None, proof.eps_follower),
        ("both", total, GOAL_CONTEST_S if large else None, None),
        ("owner's prices, closed form", price_s, None, None),
    ]
    if n <= 1000:
        seconds, found = _best(lambda: solve(owner, free, points=9), 1)
        rows.append((f"solve with both certificates, {found.status}", seconds, None,
                     found.certificate.eps_follower))  # fmt: skip
    return [
        {"table": "train_mine_contest", "followers": n, "step": step, "seconds": seconds,
         "eps": eps, "goal s": goal, "met": None if goal is None else seconds < goal}
        for step, seconds, goal, eps in rows
    ]  # fmt: skip


def _row(
    method: str, n: int, seconds: float, how: str = "measured", ours: float | None = None,
    error: float | None = None, goal: str | None = None, met: bool | None = None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "table": "priced_effort", "method": method, "followers": n, "milliseconds": seconds * 1e3,
        "time": how, "ratio": None if ours is None else seconds / ours,
        "largest difference": None if error is None else float(error), "goal": goal,
        "met": None if met is None else bool(met),
    }  # fmt: skip


def _best(call: Callable[[], Any], repetitions: int) -> tuple[float, Any]:
    """The least time of `repetitions` calls after one that warms up, and the last answer."""
    answer, times = call(), []
    for _ in range(repetitions):
        begin = perf_counter()
        answer = call()
        times.append(perf_counter() - begin)
    return min(times), answer
