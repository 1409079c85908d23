"""DnC: drop the rows that lie farthest along the direction in which rows differ most.

Paper: Shejwalkar & Houmansadr, "Manipulating the Byzantine", NDSS 2021, Algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.errors import ConfigError
from fedalign.core.gram import centred_gram
from fedalign.core.subsets import subset_of_each
from fedalign.core.threat import Family, Space


@dataclass(frozen=True)
class DnC(Defense):
    """Mean of the rows that survive every iteration. Needs ceil(c f) < n / 2.

    byzantine_count: f >= 0; None takes the context's. columns: b >= 1, coordinates looked at in
    one iteration. filter_factor: c > 0, ceil(c f) rows are dropped. iterations: >= 1; survivors
    are those of all of them, or of the last one where that leaves nobody.
    scores: <x_i - mean, v>^2 of the last iteration, v the top right singular vector.
    """

    byzantine_count: int | None = None
    columns: int = 10_000
    filter_factor: float = 1.0
    iterations: int = 1

    needs: ClassVar[frozenset[str]] = frozenset()
    space: ClassVar[Space] = "update"
    family: ClassVar[Family] = "distance"
    linear: ClassVar[bool] = True
    test: ClassVar[Literal["selection"]] = "selection"

    def __post_init__(self) -> None:
        if self.columns < 1 or self.iterations < 1 or not self.filter_factor > 0:
            raise ConfigError(
                "DnC needs columns >= 1, iterations >= 1 and filter_factor > 0, got "
                f"{self.columns}, {self.iterations} and {self.filter_factor}."
            )

    def minimum(self, byzantine_count: int) -> int:
        return 2 * self._dropped(byzantine_count) + 1

    def _dropped(self, byzantine_count: int) -> int:
        return ceil(self.filter_factor * byzantine_count - 1e-9)

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        n, f = len(updates), context.byzantine(self.byzantine_count)
        require(self, n, f)
        kept = torch.ones(n, dtype=torch.bool, device=updates.device)
        for _ in range(self.iterations):
            scores = _outlyingness(self._sample(updates, context))
            last = torch.zeros_like(kept)
            last[scores.argsort(stable=True)[: n - self._dropped(f)]] = True
            kept &= last
        return Aggregate.mean(updates, kept if bool(kept.any()) else last, scores=scores)

    def _sample(self, updates: Tensor, context: Context) -> Tensor:
        d = updates.shape[1]
        if self.columns >= d:
            return updates
        chosen = subset_of_each([slice(0, d)], self.columns / d, context.rng)[0]
        return updates.index_select(1, chosen.to(updates.device))


def _outlyingness(rows: Tensor) -> Tensor:
    """(n,): with G u = s u for the top s of the centred Gram, <x_i - mean, v>^2 = s u_i^2."""
    products = centred_gram(rows)
    centred = products - products.mean(dim=0) - products.mean(dim=1, keepdim=True) + products.mean()
    # The paper computes an SVD; the n x n eigenproblem has the same top direction.
    values, vectors = torch.linalg.eigh((centred + centred.T) / 2)
    return values[-1].clamp(min=0) * vectors[:, -1].square()
