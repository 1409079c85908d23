"""Rules of three lines, so that a wrapper's test shows the wrapper's arithmetic and no other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.selection import median


@dataclass(frozen=True)
class Mean(Defense):
    """Coefficients that look at no row."""

    test = "always"

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        return Aggregate.mean(updates, torch.ones(len(updates), dtype=torch.bool))


@dataclass(frozen=True)
class SlowMean(Mean):
    """The same, but does not say so: wrappers must aggregate again."""

    test = "none"


@dataclass(frozen=True)
class Middle(Defense):
    """The median: no coefficients, nobody rejected."""

    linear = False

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        return Aggregate(median(updates), torch.ones(len(updates), dtype=torch.bool))


@dataclass(frozen=True)
class LengthFilter(Defense):
    """Mean of the rows with 0.88 <= length / median length <= 1.1, on models if there is one."""

    space = "model"
    family = "norm"
    test = "threshold"

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        rows = updates if context.model is None else updates + context.model
        lengths = rows.double().norm(dim=1)
        ratio = lengths / lengths.quantile(0.5)
        return Aggregate.mean(updates, (ratio >= 0.88) & (ratio <= 1.1), scores=lengths)


@dataclass(frozen=True)
class Central(Defense):
    """The row nearest the mean of all."""

    family = "distance"
    test = "selection"

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        apart = (updates - updates.mean(dim=0)).double().norm(dim=1)
        return Aggregate.select(updates, int(apart.argmin()), scores=apart)


@dataclass(frozen=True)
class Count(Defense):
    """The mean; remembers how often it ran. needs: clients it asks for."""

    asks: int = 1

    def minimum(self, byzantine_count: int) -> int:
        return self.asks

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        runs = context.memory.get("runs", 0) + 1
        keep = torch.ones(len(updates), dtype=torch.bool)
        return Aggregate.mean(updates, keep, memory={"runs": runs})
