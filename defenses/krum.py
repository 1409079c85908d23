"""Krum: keep the update whose closest neighbours are closest.

Paper: Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
NeurIPS 2017, Section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from defenses._checks import check_choice, check_count, check_space
from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.gram import centred_gram, squared_distances
from fedalign.core.neighbours import NEIGHBOURS, Neighbours, krum_scores, neighbour_count
from fedalign.core.threat import Family, Space


@dataclass(frozen=True)
class Krum(Defense):
    """Select one update. n >= 2f + 3.

    byzantine_count: f >= 0; None takes the context's. neighbors: how many distances a score adds
    up, "n-f-2" (the paper), "n-f-1" or "n-f"; the first two disagree on one matrix in six.
    space: what attacks measure themselves against; distances are the same.
    scores: (n,) sums of squared distances, small is good.
    """

    byzantine_count: int | None = None
    neighbors: Neighbours = "n-f-2"
    space: Space = "update"

    family: ClassVar[Family] = "distance"
    test: ClassVar[Literal["selection"]] = "selection"

    def __post_init__(self) -> None:
        check_count("Krum", self.byzantine_count)
        check_choice("Krum", "neighbors", self.neighbors, tuple(NEIGHBOURS))
        check_space("Krum", self.space)

    def minimum(self, byzantine_count: int) -> int:
        return 2 * byzantine_count + 3

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        n, f = len(updates), context.byzantine(self.byzantine_count)
        require(self, n, f)
        squared = squared_distances(centred_gram(updates))
        scores = krum_scores(squared, neighbour_count(self.neighbors, n, f))
        return Aggregate.select(updates, scores.argmin(), scores=scores)
