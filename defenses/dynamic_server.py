"""Dynamic server: draw the rule of the round from a pool after everybody has submitted.

Paper: Zhao et al., "Understanding Byzantine Robustness in Federated Learning with A Black-box
Server", arXiv 2408.06042, 2024; mode "minimax" is our derivation (a zero-sum game's value).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.errors import ConfigError
from fedalign.core.moments import moments
from fedalign.core.threat import Family, Space

Mode = Literal["uniform", "weighted", "minimax"]


@dataclass(frozen=True)
class DynamicServer(Defense):
    """One rule of the pool, drawn with probabilities p from one number of `context.rng`.

    pool: at least one rule; those that need more clients than there are get p = 0 for the round.
    mode: "uniform"; "weighted", p proportional to the cosine of each rule's result with
    `context.root_update`, cosines below `floor` count as 0 (all of them: uniform); "minimax",
    p minimises the worst expected impact, max over attacks a of sum_r impact[a, r] p_r.
    impact: (attacks, rules), accuracy lost in a pilot run; for minimax only. floor: in [-1, 1].
    byzantine_count: f >= 0, for the whole pool; None takes the context's.
    Memory: {str(index): memory of that rule}. notes: probabilities, drawn (index), uniform_draw
    in [0, 1) and rule, so that anybody can re-check the draw.
    """

    pool: Sequence[Defense]
    mode: Mode = "uniform"
    impact: Sequence[Sequence[float]] | None = None
    floor: float = 0.1
    byzantine_count: int | None = None

    family: ClassVar[Family] = "other"

    def __post_init__(self) -> None:
        object.__setattr__(self, "pool", tuple(self.pool))
        if not self.pool:
            raise ConfigError("The dynamic server's pool is empty: list at least one rule.")
        if self.mode not in get_args(Mode):
            raise ConfigError(
                f"The dynamic server's mode is one of {', '.join(get_args(Mode))}; "
                f"got '{self.mode}'."
            )
        if not -1 <= self.floor <= 1:
            raise ConfigError(f"floor is a cosine in [-1, 1] (default 0.1), got {self.floor}.")
        if self.impact is not None:
            object.__setattr__(self, "impact", _table(self.impact, len(self.pool)))
        elif self.mode == "minimax":
            raise ConfigError(
                "The dynamic server in mode 'minimax' needs impact, got null: run the scenario's "
                "pilot and pass its accuracy drops, one row per attack, one column per rule."
            )

    @property
    def needs(self) -> frozenset[str]:
        own = {"root_update"} if self.mode == "weighted" else set()
        return frozenset(own).union(*(rule.needs for rule in self.pool))

    @property
    def space(self) -> Space:
        spaces = {rule.space for rule in self.pool}
        return spaces.pop() if len(spaces) == 1 else "update"

    @property
    def linear(self) -> bool:
        return all(rule.linear for rule in self.pool)

    def minimum(self, byzantine_count: int) -> int:
        return min(rule.minimum(byzantine_count) for rule in self.pool)

    @cached_property
    def minimax(self) -> tuple[float, ...]:
        """The probabilities of mode "minimax", before rules that do not fit are left out."""
        return _minimax(np.array(self.impact))

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        if self.byzantine_count is not None:
            context = replace(context, byzantine_count=self.byzantine_count)
        n, f = len(updates), context.byzantine_count or 0
        require(self, n, f)
        draw = float(context.rng.random())  # before any rule of the pool draws
        fits = [i for i, rule in enumerate(self.pool) if rule.minimum(f) <= n]
        if self.mode == "weighted":
            results = {i: self.pool[i](updates, context.inner(str(i))) for i in fits}
            p = self._by_cosine(results, context)
        else:
            p = np.array(self.minimax if self.mode == "minimax" else [1.0] * len(self.pool))
        p = _restricted(p, fits)
        drawn = _inverse(p, draw)
        if self.mode != "weighted":
            results = {drawn: self.pool[drawn](updates, context.inner(str(drawn)))}
        notes = {
            **results[drawn].notes,
            "probabilities": p.tolist(),
            "uniform_draw": draw,
            "drawn": drawn,
            "rule": type(self.pool[drawn]).__name__,
        }
        fresh = {str(i): result.memory for i, result in results.items()}
        return replace(results[drawn], memory={**context.memory, **fresh}, notes=notes)

    def _by_cosine(self, results: dict[int, Aggregate], context: Context) -> np.ndarray:
        """(rules,) cosines with the root update, those below the floor 0; not normalised."""
        # The paper leaves batch-norm statistics out; payloads hold trainable tensors only.
        if context.root_update is None:
            raise ConfigError(
                "The dynamic server in mode 'weighted' needs the update of the server's root data, "
                "got a context without it: pass Context(root_update=...) or use mode 'uniform'."
            )
        weights = np.zeros(len(self.pool))
        vectors = torch.stack([result.vector for result in results.values()])
        squares, inner = moments(vectors, context.root_update)
        lengths = (squares * moments(context.root_update[None])[0]).sqrt()
        cosines = torch.where(lengths > 0, inner / torch.where(lengths > 0, lengths, 1), 0.0)
        for index, cosine in zip(results, cosines.tolist(), strict=True):
            weights[index] = max(cosine, 0.0) if cosine >= self.floor else 0.0
        return weights


def _table(impact: Sequence[Sequence[float]], rules: int) -> tuple[tuple[float, ...], ...]:
    rows = tuple(tuple(float(x) for x in row) for row in impact)
    if not rows or any(len(row) != rules for row in rows) or not np.isfinite(rows).all():
        raise ConfigError(
            f"impact needs one row per attack and one finite number for each of the {rules} rules "
            f"of the pool, got rows of {[len(row) for row in rows]} numbers."
        )
    return rows


def _minimax(impact: np.ndarray) -> tuple[float, ...]:
    """The row player's side: minimise t with impact p <= t, p on the simplex."""
    from scipy.optimize import linprog

    attacks, rules = impact.shape
    solved = linprog(
        np.append(np.zeros(rules), 1.0),
        A_ub=np.hstack([impact, -np.ones((attacks, 1))]),
        b_ub=np.zeros(attacks),
        A_eq=np.append(np.ones(rules), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * rules + [(None, None)],
        method="highs",
    )
    p = np.clip(solved.x[:rules], 0, None)
    return tuple((p / p.sum()).tolist())


def _restricted(weights: np.ndarray, fits: Sequence[int]) -> np.ndarray:
    """Probabilities proportional to the weights of the rules that fit; uniform if all are 0."""
    mask = np.zeros(len(weights))
    mask[list(fits)] = 1.0
    weights = weights * mask if (weights * mask).sum() > 0 else mask
    return weights / weights.sum()


def _inverse(p: np.ndarray, draw: float) -> int:
    """The first index whose cumulative probability exceeds the draw."""
    index = int(np.searchsorted(np.cumsum(p), draw, side="right"))
    return min(index, int(np.flatnonzero(p)[-1]))  # rounding may leave the sum below the draw
