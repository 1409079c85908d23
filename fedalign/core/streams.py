"""Rules that add rows up and let them go: a contract beside those of `contracts`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense


@dataclass(frozen=True)
class Partial:
    """What a streaming rule has seen so far. total: (d,) float64, a weighted sum. weight: of the
    rows in it. count: how many."""

    total: Tensor
    weight: float = 0.0
    count: int = 0


@runtime_checkable
class StreamingDefense(Defense, Protocol):
    """A rule that needs each row once: rows come block after block and are let go, so the (n, d)
    matrix never exists. Where it decides over clients, the round streams; its decision depends on
    the blocks, which are part of a run's identity, never on the order of finishing."""

    def add(self, partial: Partial | None, updates: Tensor, context: Context) -> Partial:
        """What is known after one more block: updates (k, d), their clients and weights in
        `context`. None before the first; what is passed in is used up and not read again."""

    def finish(self, partial: Partial) -> Aggregate:
        """The decision: a float64 vector, `accepted` (count,), no coefficients."""
