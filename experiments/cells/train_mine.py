"""Rows of `scenario=train_mine`: the contest with seen types, budgets, hidden types, mean field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.cells.market_rows import MarketRows, evidence
from experiments.cells.stackelberg import _curve, _reactions, draw_types
from incentives.certificate import FEASIBILITY, FOLLOWER
from incentives.game import CERTIFIED, NO_CONTEST, UNCERTIFIED, solve
from incentives.incomplete.bayesian_contest import MOST_CLIENTS, BayesianContest
from incentives.incomplete.belief import Belief
from incentives.incomplete.mean_field_contest import MeanFieldContest
from incentives.incomplete.type_counts import TypeCounts
from incentives.models.model_owner import ModelOwner
from incentives.models.train_mine_contest import TrainMineContest

Rows = list[dict[str, Any]]


def rows(config: Mapping[str, Any]) -> Rows:
    """One market: complete information without and with budgets, then hidden types."""
    fields, p, counts = draw_types(config)
    budget = fields.pop("budget")
    drawn = {name: np.repeat(values, counts) for name, values in fields.items()}
    seed, n = config["seed"], config["clients"]
    free = TrainMineContest(**drawn)
    bound = TrainMineContest(**drawn, budget=np.repeat(budget, counts))
    found: Rows = []
    for rule, market in {"complete": free, "complete, budgets": bound}.items():
        owner = ModelOwner(market, config["gains"], config["scales"])
        answer = solve(owner, market, seed=seed, points=config["points"])
        where = {"clients": n, "rule": rule, "seed": seed}
        found.append(where | _prices(answer.price, answer.actions)
                     | MarketRows.of(owner).outcome(answer.price, answer.actions))  # fmt: skip
        found.append({"table": "certificates", **where, **evidence(answer)})
        if answer.status != NO_CONTEST:
            found += _reactions(owner, answer, f"n = {n}, {rule}")
        if rule == "complete":
            found += _contest_reactions(market, answer, fields, counts, n)
    hidden = ModelOwner(free, config["gains"], config["scales"])
    return found + (_hidden(config, fields, p, counts, hidden) if n > 1 else [])


def _hidden(config, fields, p, counts, owner: ModelOwner) -> Rows:
    """Followers know their own type only; the owner knows the distribution.

    Above 30 clients exact play is out of reach: the mean field stands alone and unchecked.
    """
    n, costs = config["clients"], fields["mining_cost"]
    cases = TypeCounts.exact(n, p)
    gains, scales = config["gains"], config["scales"]
    half = fields["quality"] / (2 * fields["training_cost"])
    price = Belief.of_counts(cases, fields["quality"] * half).unit_price(gains[0], scales[0])
    exact = BayesianContest(costs, p, n) if n <= MOST_CLIENTS else None
    contests = {"Bayesian": exact, "mean field": MeanFieldContest(costs, p, n)}
    table, rows = MarketRows.of(owner), []
    for rule, contest in contests.items():
        if contest is None:
            continue
        prize = Belief.of_counts(cases, contest.efforts(1.0)).prize(gains[1], scales[1])
        each = np.stack([price * half, contest.efforts(prize)], axis=1)  # (types, 2)
        actions, prices = np.repeat(each, counts, axis=0), np.array([price, prize])
        where = {"clients": n, "rule": rule, "seed": config["seed"]}
        rows.append(where | _prices(prices, actions) | table.outcome(prices, actions))
        violation = float(owner.followers.feasible(actions).max())
        rows.append({"table": "certificates", **where, **_interim(exact, each[:, 1], prize, violation),
                     "method": "types in turn" if rule == "Bayesian" else "closed form"})  # fmt: skip
    return rows


def _interim(exact: BayesianContest | None, efforts, prize: float, violation: float) -> dict:
    """What a type expects to gain by deviating, and the least that a type expects to earn."""
    if exact is None:
        return {"violation": violation, "status": f"{UNCERTIFIED} (not checked)"}
    gap = exact.gap(prize, efforts)
    holds = gap <= FOLLOWER and violation <= FEASIBILITY
    return {
        "eps followers": gap,
        "violation": violation,
        "status": f"{CERTIFIED if holds else UNCERTIFIED} (interim)",
        "least interim utility": float(exact.interim_utility(prize, efforts).min()),
    }


def _prices(price: np.ndarray, actions: np.ndarray) -> dict[str, float]:
    return {
        "training price": float(price[0]),
        "prize": float(price[1]),
        "mined": float(actions[:, 1].sum()),
    }


def _contest_reactions(market, answer, fields, counts, n: int) -> Rows:
    """One miner's best effort over what all others mine, per type, at the equilibrium's prize."""
    total, prize = answer.actions[:, 1].sum(), answer.price[1]
    if not total > 0:
        return []
    steep = np.geomspace(total * 1e-4, total * 0.1, 30)
    at = np.concatenate([steep, np.linspace(total * 0.1, total * 2, 150)[1:]])
    rows = []
    for kind, cost in enumerate(fields["mining_cost"]):
        if not counts[kind]:
            continue
        own = float(answer.actions[int(counts[:kind].sum()), 1])
        best = np.maximum(np.sqrt(prize * at / cost) - at, 0.0)
        rows.append(_curve(
            f"n = {n}", f"cost {cost:g}", at, best, "others' mining", "own mining",
            [float(total - own), own], "contest",
        ))  # fmt: skip
    return rows
