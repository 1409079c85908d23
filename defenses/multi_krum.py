"""Multi-Krum: the mean of the updates with the best Krum scores.

Paper: Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
NeurIPS 2017, Section 5 (m-Krum).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from defenses._checks import check, check_choice, check_count, check_space
from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.gram import centred_gram, squared_distances
from fedalign.core.neighbours import NEIGHBOURS, Neighbours, krum_scores, neighbour_count
from fedalign.core.threat import Family, Space


@dataclass(frozen=True)
class MultiKrum(Defense):
    """Mean of the `keep` updates with the smallest Krum scores. n >= 2f + 3.

    byzantine_count: f >= 0; None takes the context's. keep: 1 .. n; None keeps n - f.
    neighbors, space, scores: as in Krum.
    """

    byzantine_count: int | None = None
    keep: int | None = None
    neighbors: Neighbours = "n-f-2"
    space: Space = "update"

    family: ClassVar[Family] = "distance"
    test: ClassVar[Literal["selection"]] = "selection"

    def __post_init__(self) -> None:
        check_count("MultiKrum", self.byzantine_count)
        check(
            self.keep is None or self.keep >= 1,
            "MultiKrum",
            "keep",
            "1 or more, or null",
            self.keep,
        )
        check_choice("MultiKrum", "neighbors", self.neighbors, tuple(NEIGHBOURS))
        check_space("MultiKrum", self.space)

    def minimum(self, byzantine_count: int) -> int:
        return max(2 * byzantine_count + 3, self.keep or 0)

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        n, f = len(updates), context.byzantine(self.byzantine_count)
        require(self, n, f)
        squared = squared_distances(centred_gram(updates))
        scores = krum_scores(squared, neighbour_count(self.neighbors, n, f))
        best = scores.sort(stable=True).indices[: n - f if self.keep is None else self.keep]
        kept = torch.zeros(n, dtype=torch.bool, device=updates.device).index_fill_(0, best, True)
        return Aggregate.mean(updates, kept, scores=scores)
