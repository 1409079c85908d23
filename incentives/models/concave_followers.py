"""ConcaveFollowers: any concave payoff, written once in cvxpy and solved again per follower.

Source: Agrawal et al., "Differentiable Convex Optimization Layers", NeurIPS 2019 (disciplined
parametrised programming, DPP); the setting is that of arXiv 2202.10938.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.inputs import Numbers, Range, columns, prices
from incentives.iteration import iterate
from incentives.players import Actions, Pieces, excess

ACCURACY = 1e-10
OTHERS, TOTAL = "others", "total"

Contributed = Callable[[np.ndarray, Mapping[str, np.ndarray]], np.ndarray]
Paid = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class ConcaveFollowers:
    """U_u = earns(z, given) over z >= 0, sum z <= F_u; z is a cvxpy variable (k,).

    earns: makes a concave expression of z and `given`: cvxpy parameters >= 0, a scalar for every
    price and every type, by name, and `given["others"]` (k,), what all others do together, and
    `given["total"]` (k,), z + others as a variable, which a parameter may multiply. It must be
    DPP, else ConfigError. types: name -> numbers >= 0, (n,) or one for all. names: of
    the prices. parts: of an action, k names. budget: F >= 0. coupled: the payoff reads what
    others do: the joint answer is sought by iteration, and the certificate says whether it was found.
    contributed: (z (n, k), types) -> (n, c), default z itself. paid: (price (p,), contributions
    (n, c)) -> (n,), default their product. most: (p,) the highest price worth trying.
    """

    earns: Callable[[Any, Mapping[str, Any]], Any]
    types: Mapping[str, Numbers]
    names: tuple[str, ...]
    most: tuple[float, ...]
    parts: tuple[str, ...] = ("effort",)
    budget: Numbers = np.inf
    coupled: bool = False
    contributed: Contributed = lambda actions, types: actions
    paid: Paid = lambda price, contributions: contributions @ price

    def __post_init__(self):
        taken = {OTHERS, TOTAL}
        clash = ({*self.types} & {*self.names, *taken}) | ({*self.names} & taken)
        if clash:
            raise ConfigError(
                f"ConcaveFollowers: {', '.join(sorted(clash))} names two things; rename a type."
            )
        table = SimpleNamespace(**self.types, budget=self.budget)
        ranges = {name: Range() for name in self.types} | {"budget": Range(infinite=True)}
        columns(table, ranges)
        object.__setattr__(self, "budget", table.budget)
        types = {name: getattr(table, name) for name in self.types}
        object.__setattr__(self, "types", MappingProxyType(types))
        prices(self, self.most, self.names)
        _ = self._program  # what is not concave is refused here

    @property
    def n(self) -> int:
        return len(self.budget)

    @cached_property
    def _program(self) -> SimpleNamespace:
        import cvxpy as cp

        z, total = cp.Variable(len(self.parts)), cp.Variable(len(self.parts))
        given = {name: cp.Parameter(nonneg=True, name=name) for name in (*self.names, *self.types)}
        given[OTHERS] = cp.Parameter(len(self.parts), nonneg=True, name=OTHERS)
        budget = cp.Parameter(nonneg=True, name="budget")
        payoff = self.earns(z, given | {TOTAL: total})
        common = [z >= 0, total == z + given[OTHERS]]
        limits = {True: [*common, cp.sum(z) <= budget], False: common}  # by: is F finite
        problems = {f: cp.Problem(cp.Maximize(payoff), limit) for f, limit in limits.items()}
        if not problems[True].is_dcp(dpp=True):
            raise ConfigError(
                f"ConcaveFollowers: cvxpy cannot see that the payoff {payoff} is concave in the "
                "action and DPP in its parameters: use concave atoms, and multiply a parameter "
                "only with what holds no other parameter."
            )
        return SimpleNamespace(
            z=z, total=total, given=given, budget=budget, payoff=payoff, problems=problems
        )

    def obstacle(self, price: np.ndarray) -> str:
        return ""

    def equilibrium(self, price: np.ndarray) -> Actions:
        price = prices(self, price, self.names)
        start = np.zeros((self.n, len(self.parts)))
        if self.coupled:
            start += np.where(np.isfinite(self.budget), self.budget, 1.0)[:, None] / 2
            start /= len(self.parts)
            return iterate(self, price, start)
        return self.best_response(price, start)

    def best_response(
        self, price: np.ndarray, actions: Actions, who: np.ndarray | None = None
    ) -> Actions:
        who = np.arange(self.n) if who is None else np.asarray(who)
        others = np.maximum(actions.sum(axis=0) - actions, 0.0)
        answers = np.empty((len(who), len(self.parts)))
        for row, u in enumerate(who):
            self._give(price, others[u], u)
            answers[row] = _inside(self._solved(u), self.budget[u])
        return answers

    def _solved(self, u: int) -> np.ndarray:
        """The action of the parameters just given; less accuracy than asked is the certificate's
        to judge."""
        import cvxpy as cp

        problem = self._program.problems[bool(np.isfinite(self.budget[u]))]
        tight = {name: ACCURACY for name in ("tol_gap_abs", "tol_gap_rel", "tol_feas")}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                problem.solve(solver=cp.CLARABEL, **tight)
        except cp.SolverError as error:
            raise ConfigError(f"The program of follower {u} has no answer: {error}") from error
        if self._program.z.value is None:
            raise ConfigError(
                f"The program of follower {u} is {problem.status}: give it a finite budget or a "
                "payoff that falls in the end."
            )
        return self._program.z.value

    def payoff(
        self, price: np.ndarray, own: np.ndarray, actions: Actions, who: np.ndarray | None = None
    ) -> np.ndarray:
        who = np.arange(self.n) if who is None else np.asarray(who)
        others = np.maximum(actions.sum(axis=0) - actions, 0.0)
        earned = np.empty(own.shape[:-1])
        for row, u in enumerate(who):
            self._give(price, others[u], u)
            for at in np.ndindex(own.shape[1:-1]):
                self._program.z.value = own[(row, *at)]
                self._program.total.value = own[(row, *at)] + others[u]
                earned[(row, *at)] = self._program.payoff.value
        return earned

    def utility(self, price: np.ndarray, actions: Actions) -> np.ndarray:
        return self.payoff(prices(self, price, self.names), actions, actions)

    def feasible(self, actions: Actions) -> np.ndarray:
        return excess(actions, self.budget)

    def contributions(self, actions: Actions) -> np.ndarray:
        return self.contributed(actions, self.types)

    def payments(self, price: np.ndarray, actions: Actions) -> np.ndarray:
        return self.paid(prices(self, price, self.names), self.contributions(actions))

    def ceiling(self, gains: np.ndarray, scales: np.ndarray) -> np.ndarray:
        return np.array(self.most, dtype=np.float64)

    def closed_form(self, gains: np.ndarray, scales: np.ndarray) -> np.ndarray | None:
        return None

    def pieces(self, price: np.ndarray, actions: Actions, who: np.ndarray) -> Pieces | None:
        return None  # already solved by cvxpy: there is nothing independent to compare with

    def _give(self, price: np.ndarray, others: np.ndarray, u: int) -> None:
        given = self._program.given
        for name, value in zip(self.names, price, strict=True):
            given[name].value = value
        for name, values in self.types.items():
            given[name].value = values[u]
        given[OTHERS].value = others
        if np.isfinite(self.budget[u]):
            self._program.budget.value = self.budget[u]


def _inside(action: np.ndarray, budget: float) -> np.ndarray:
    """The solver's answer without its rounding outside of the constraints."""
    action = np.maximum(action, 0.0)
    total = action.sum()
    return action * (budget / total) if total > budget else action
