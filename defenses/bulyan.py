"""Bulyan: select by repeated Krum, then average per coordinate around the median.

Paper: El Mhamdi, Guerraoui, Rouault, "The Hidden Vulnerability of Distributed Learning in
Byzantium", ICML 2018, Section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from defenses._checks import check_choice, check_count, check_space
from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.gram import centred_gram, squared_distances
from fedalign.core.neighbours import krum_scores, neighbour_count
from fedalign.core.selection import mean_around_median
from fedalign.core.threat import Family, Space

Selection = Literal["iterative", "oneshot"]


@dataclass(frozen=True)
class Bulyan(Defense):
    """Mean of the theta - 2f values nearest the median of theta = n - 2f selected. n >= 4f + 3.

    byzantine_count: f >= 0; None takes the context's. selection: "iterative", take Krum's choice
    out and run Krum on the rest (the paper); "oneshot", the theta best of one scoring.
    space: what attacks measure themselves against. accepted: the selected rows. scores: Krum's
    on all rows.
    """

    byzantine_count: int | None = None
    selection: Selection = "iterative"
    space: Space = "update"

    family: ClassVar[Family] = "distance"
    linear: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count("Bulyan", self.byzantine_count)
        check_choice("Bulyan", "selection", self.selection, get_args(Selection))
        check_space("Bulyan", self.space)

    def minimum(self, byzantine_count: int) -> int:
        return 4 * byzantine_count + 3

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        n, f = len(updates), context.byzantine(self.byzantine_count)
        require(self, n, f)
        squared = squared_distances(centred_gram(updates))
        scores = krum_scores(squared, neighbour_count("n-f-2", n, f))
        theta = n - 2 * f
        if self.selection == "oneshot":
            chosen = scores.sort(stable=True).indices[:theta].tolist()
        else:
            chosen = _iterative(squared.cpu().numpy(), theta, f)
        accepted = torch.zeros(n, dtype=torch.bool, device=updates.device)
        accepted[chosen] = True
        vector = mean_around_median(updates, theta - 2 * f, chosen=sorted(chosen))
        return Aggregate(vector, accepted, scores=scores)


def _iterative(squared: np.ndarray, theta: int, f: int) -> list[int]:
    """Krum's choices one after the other, each on those that are left."""
    left, chosen = list(range(len(squared))), []
    while len(chosen) < theta:
        count = neighbour_count("n-f-2", len(left), f)
        ordered = np.sort(squared[np.ix_(left, left)], axis=1)  # the first is a row's own 0
        chosen.append(left.pop(int(ordered[:, 1 : count + 1].sum(axis=1).argmin())))
    return chosen
