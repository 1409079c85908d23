"""ConcaveFollowers: any concave payoff, written once in cvxpy and solved again per follower.

Source: cvxpy, disciplined parametrised programming (DPP), Agrawal et al., "Differentiable Convex
Optimization Layers", NeurIPS 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.inputs import Numbers, Range, columns, prices
from incentives.iteration import iterate
from incentives.players import Actions, Pieces, excess

Payoff = Callable[[Any, Mapping[str, Any]], Any]


@dataclass(frozen=True, eq=False)
class ConcaveFollowers:
    """U_u = payoff(z, given) over z >= 0, sum z <= F_u, where z is a cvxpy variable (k,).

    payoff: builds a concave expression of z from `given`: cvxpy parameters, one scalar for every
    price of `names` and every type, and `others` (k,), what all other followers do together. It
    must be DPP; ConfigError if not. types: name -> (n,) finite numbers. names: of the prices.
    parts: of an action, k names. contributed: (z, types of all (n,)) -> (n, c) in numpy, default
    the action itself. paid: (price (p,), z (n, k), contributions (n, c)) -> (n,), default
    contributions @ price. nonnegative: types and prices are >= 0, which DPP products may need.
    budget: F >= 0. coupled: whether the payoff reads `others`; then the joint answer is sought by
    iteration, and the certificate says whether it was found.
    """

    payoff_of: Payoff
    types: Mapping[str, Numbers]
    names: tuple[str, ...]
    parts: tuple[str, ...] = ("effort",)
    budget: Numbers = np.inf
    contributed: Callable[[np.ndarray, Mapping[str, np.ndarray]], np.ndarray] | None = None
    paid: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None = None
    coupled: bool = False
    nonnegative: bool = True
    _built: dict = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        low = 0.0 if self.nonnegative else -np.inf
        table = _Table(dict(self.types) | {"budget": self.budget}, low)
        object.__setattr__(self, "budget", table.values.pop("budget"))
        object.__setattr__(self, "types", MappingProxyType(table.values))
        self._built.update(_build(self))
