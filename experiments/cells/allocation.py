"""Cell of `scenario=edge_allocation`: ADMM against bisection, cvxpy and allocations by rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from experiments.benchmarks.cells import write_rows
from fedalign.core.seeds import Seeds
from incentives.allocation.admm import ADMM, Agreed
from incentives.allocation.allocation import Allocation
from incentives.allocation.baselines.full_speed import FullSpeed
from incentives.allocation.baselines.half_and_half import HalfAndHalf
from incentives.allocation.baselines.mec_first import MECFirst
from incentives.allocation.baselines.random_feasible import RandomFeasible
from incentives.allocation.bisection import Bisection
from incentives.allocation.central import Central
from incentives.allocation.edge_server import EdgeServer
from incentives.allocation.edge_servers import EdgeServers
from incentives.allocation.problem import AllocationProblem

Config = Mapping[str, Any]
DRAWS = 50  # random allocations averaged


def edge_allocation(config: Config, folder: Path, environment: Config) -> None:
    """One problem, solved by three algorithms and four rules."""
    problem = _problem(config)
    agreed, admm_ms = _timed(lambda: ADMM(config["eps"], config["most_iterations"])(problem))
    exact, exact_ms = _timed(lambda: Bisection()(problem))
    Central()(problem)  # once unmeasured: it imports cvxpy
    central, central_ms = _timed(lambda: Central()(problem))
    where = {"strategy": config["strategy"], "omega": config["omega"]}
    deadline = config["deadline_s"]
    where |= {"tau / shortest": config["tau_slack"]} if deadline is None else {"tau in s": deadline}
    where["seed"] = config["seed"]
    best = agreed.allocation
    main = {
        "T in s": best.round_s,
        "objective in J": best.objective,
        "energy in J": best.energy,
        "iterations": agreed.iterations,
        "cap met": agreed.exact,
        "ADMM - cvxpy": _apart(best, central),
        "bisection - cvxpy": _apart(exact, central),
        "violation": best.violation,
    }
    times = {"ADMM ms": admm_ms, "bisection ms": exact_ms, "cvxpy ms": central_ms}
    rows = [
        where | main,
        {"table": "rules"} | where | _rules(problem, exact, Seeds(config["seed"])),
        {"table": "time"} | where | times,
    ]
    write_rows(rows + _residuals(config, agreed), config, folder, environment)


def _problem(config: Config) -> AllocationProblem:
    """Servers as given, or drawn; a deadline as given, or so many times the shortest round that
    either strategy can keep."""
    if config["given"] is None:
        rng = Seeds(config["seed"]).at("edge_servers")
        servers = EdgeServers(config["servers"], config["tasks"])(rng)
    else:
        servers = tuple(EdgeServer(**server) for server in config["given"])
    omega, strategy, deadline = config["omega"], config["strategy"], config["deadline_s"]
    if deadline is None:
        deadline = (
            config["tau_slack"] * AllocationProblem(servers, omega, strategy="equal").shortest
        )
    return AllocationProblem(servers, omega, deadline, strategy, config["kappa"])


def _rules(problem: AllocationProblem, best: Allocation, seeds: Seeds) -> dict[str, Any]:
    """Objective of each rule over the optimum; whether half and half keeps the deadline."""
    rng = seeds.at("random_allocation")
    random = [RandomFeasible()(problem, rng).objective for _ in range(DRAWS)]
    half = HalfAndHalf()(problem)
    return {
        "all to the round": FullSpeed()(problem).objective / best.objective,
        "half and half": half.objective / best.objective,
        "half in time": half.round_s <= problem.deadline_s,
        "random": float(np.mean(random)) / best.objective,
        "MEC first": MECFirst()(problem).objective / best.objective,
    }


def _apart(one: Allocation, other: Allocation) -> float:
    return abs(one.objective / other.objective - 1)


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    begin = perf_counter()
    answer = call()
    return answer, 1e3 * (perf_counter() - begin)


def _residuals(config: Config, agreed: Agreed) -> list[dict[str, Any]]:
    """Both residuals as curves over the iterations; a log axis has no place for zeros, which the
    dual one reaches where the deadline binds."""
    limit, omega = config["deadline_s"], config["omega"]
    told = f"tau = {config['tau_slack']:g} x shortest" if limit is None else f"tau = {limit:g} s"
    rows = []
    for name, values in (("primal", agreed.primal), ("dual", agreed.dual)):
        seen = np.flatnonzero(values > 0)
        if not seen.size:
            continue
        rows.append({
            "figure": "residuals",
            "panel": f"{config['strategy'].replace('_', ' ')}, {told}",
            "line": f"{name}, omega {omega:g}", "scale": "log",
            "x": (seen + 1).tolist(), "y": values[seen].tolist(),
            "x_label": "iteration", "y_label": "residual (relative)",
        })  # fmt: skip
    return rows
