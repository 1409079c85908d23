"""Cells of the Stackelberg scenarios: one market per seed, several rules, one row per rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.cells import write_rows
from experiments.cells.market_rows import MarketRows, evidence
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from incentives.certificate import certify_followers
from incentives.game import CERTIFIED, UNCERTIFIED, Equilibrium, solve
from incentives.incomplete.type_counts import TypeCounts
from incentives.incomplete.uncertain_owner import UncertainOwner
from incentives.models.model_owner import ModelOwner
from incentives.models.priced_effort import PricedEffort
from incentives.models.tied_prices import TiedPrices
from incentives.search import Tried, maximise, refine

Config = Mapping[str, Any]
Rows = list[dict[str, Any]]
POINTS = 60  # of a reaction curve


def stackelberg(config: Config, folder: Path, environment: Config) -> None:
    """`scenario=stackelberg`: unit prices (M1) under four kinds of knowledge and of rule."""
    write_rows(_priced_effort(config), config, folder, environment)


def train_mine(config: Config, folder: Path, environment: Config) -> None:
    """`scenario=train_mine`: training at a price and a prize for mining (M2)."""
    from experiments.cells.train_mine import rows

    write_rows(rows(config), config, folder, environment)


def draw_types(config: Config) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Fields of each type, probabilities, and how many clients of each type this seed has."""
    given = config["types"]
    p = np.array([kind["share"] for kind in given.values()], dtype=np.float64)
    if (p < 0).any() or not p.sum() > 0:
        raise ConfigError(f"Shares of types must be >= 0 and not all 0, got {p.tolist()}.")
    p = p / p.sum()
    names = [name for name in next(iter(given.values())) if name != "share"]
    fields = {name: np.array([float(kind[name]) for kind in given.values()]) for name in names}
    counts = Seeds(config["seed"]).at("client_types").multinomial(config["clients"], p)
    return fields, p, counts


def _priced_effort(config: Config) -> Rows:
    fields, p, counts = draw_types(config)
    budget, n = float(config["budget"]), config["clients"]
    gains, scales = config["gains"], config["scales"]
    types = PricedEffort(**fields, budget=budget)
    market = PricedEffort(**{k: np.repeat(v, counts) for k, v in fields.items()}, budget=budget)
    owner, cases = ModelOwner(market, gains, scales), TypeCounts.exact(n, p)
    expected = UncertainOwner(types, cases, gains, scales)
    guess = UncertainOwner(types, TypeCounts.mean(n, p), gains, scales)
    tied, seed = TiedPrices(market), config["seed"]
    found = {
        "complete": solve(owner, market, seed=seed),
        "incomplete": solve(expected, types, seed=seed),
        "certainty equivalent": solve(guess, types, seed=seed),
        "uniform": solve(ModelOwner(tied, gains, scales), tied, seed=seed),
    }
    foreseen = _foreseen(expected, found)
    table, books = MarketRows.of(owner), []
    for rule, answer in found.items():
        price = np.repeat(answer.price, 2) if rule == "uniform" else answer.price
        actions = market.equilibrium(price)
        where = {"budget": budget, "rule": rule, "seed": seed}
        outcome = table.outcome(price, actions)
        books.append({**where, "E[MO utility]": foreseen[rule], **outcome})
        realised = certify_followers(market, price, actions, seed)
        proved = _joined(answer, realised.eps_follower, realised.feasibility)
        prices = {"training price": float(price[0]), "mining price": float(price[1])}
        books.append({"table": "certificates", **where, **prices, **evidence(proved)})
    books.append(_order(budget, seed, found, foreseen))
    return books + _reactions(owner, found["complete"], f"budget {budget:g}")


def _joined(answer: Equilibrium, eps: float, violation: float) -> Equilibrium:
    """The leader's evidence with that of the realised followers."""
    proof = replace(answer.certificate, eps_follower=eps, feasibility=violation)
    return replace(answer, certificate=proof, status=CERTIFIED if proof.holds else UNCERTIFIED)


def _foreseen(expected: UncertainOwner, found: Mapping[str, Equilibrium]) -> dict[str, float]:
    """What each rule earns on average over all cases, not only in this seed's.

    Rules that see the types set a price in each case, found by climbing from that of `incomplete`.
    """
    start = found["incomplete"].price

    def fixed(price: np.ndarray) -> float:
        return expected.utility(price, expected.types.equilibrium(price))

    free = _case_by_case(expected, expected.bounds, start, lambda price: price)
    top = expected.bounds.max(axis=0, keepdims=True)
    one = start.mean(keepdims=True)
    tied = _case_by_case(expected, top, one, lambda price: np.repeat(price, 2))
    return {
        "complete": free,
        "incomplete": fixed(start),
        "certainty equivalent": fixed(found["certainty equivalent"].price),
        "uniform": tied,
    }


def _case_by_case(
    expected: UncertainOwner,
    bounds: np.ndarray,
    start: np.ndarray,
    spread: Callable[[np.ndarray], np.ndarray],
) -> float:
    total = 0.0
    for counts, weight in zip(expected.counts.counts, expected.counts.weights, strict=True):
        if weight < 1e-7:  # such cases together weigh less than 1e-4
            total += weight * expected.utility(
                spread(start), expected.types.equilibrium(spread(start))
            )
            continue
        case = TypeCounts(counts[None, :], np.ones(1))
        sure = UncertainOwner(expected.types, case, expected.gains, expected.scales)

        def ask(price: np.ndarray, sure: UncertainOwner = sure) -> tuple[float, float]:
            actions = sure.types.equilibrium(spread(price))
            return sure.utility(spread(price), actions), sure.payment(spread(price), actions)

        tried = Tried(ask)
        tried(start)
        if len(bounds) == 1:
            maximise(tried, bounds, points=9, starts=1, tol=1e-6)
        elif (exact := sure.closed_form()) is not None:
            tried(exact)
        else:
            refine(tried, bounds, start, 1e-6)
        total += weight * tried.best()[1]
    return total


def _order(budget, seed, found, foreseen) -> dict[str, Any]:
    """What theory says of this table, judged on it."""
    least = 1e-9 * abs(foreseen["complete"])
    ce, alone = foreseen["certainty equivalent"], found["certainty equivalent"].leader_utility
    return {
        "table": "order", "budget": budget, "seed": seed,
        "E complete >= E incomplete": bool(foreseen["complete"] >= foreseen["incomplete"] - least),
        "E incomplete >= E certainty eq.": bool(foreseen["incomplete"] >= ce - least),
        "complete >= uniform": bool(
            found["complete"].leader_utility >= found["uniform"].leader_utility - least
        ),
        "lost by not knowing": foreseen["complete"] - foreseen["incomplete"],
        "lost by certainty eq.": foreseen["incomplete"] - ce,
        "certainty eq. expects": alone, "it gets on average": ce,
    }  # fmt: skip


def _reactions(owner: ModelOwner, found: Equilibrium, line: str) -> Rows:
    """Each price moves, the other stays at its optimum."""
    names = owner.followers.names
    rows = []
    for i, name in enumerate(names):
        label = name.replace("_", " ")
        at = np.linspace(owner.bounds[i, 0], max(2.0 * found.price[i], 1e-9), POINTS)
        values, efforts = [], []
        for price in at:
            moved = found.price.copy()
            moved[i] = price
            actions = owner.followers.equilibrium(moved)
            values.append(owner.utility(moved, actions))
            efforts.append(float(owner.followers.contributions(actions)[:, i].sum()))
        bought = float(owner.followers.contributions(found.actions)[:, i].sum())
        part = owner.followers.parts[i]
        rows += [
            _curve(f"MO utility over the {label}", line, at, values, label, "MO utility",
                   [float(found.price[i]), found.leader_utility]),
            _curve(f"Clients' answer to the {label}", line, at, efforts, label,
                   f"{part} bought", [float(found.price[i]), bought]),
        ]  # fmt: skip
    return rows


def _curve(
    panel: str, line: str, x: Sequence, y: Sequence, across: str, up: str, mark: Sequence[float],
    figure: str = "reaction",
) -> dict[str, Any]:  # fmt: skip
    return {
        "figure": figure, "panel": panel, "line": line, "x": list(map(float, x)),
        "y": list(map(float, y)), "x_label": across, "y_label": up, "mark": mark,
    }  # fmt: skip
