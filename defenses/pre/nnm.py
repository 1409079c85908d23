"""NNM: replace every update by the mean of its nearest neighbours, then apply a rule.

Paper: Allouah et al., "Fixing by Mixing: A Recipe for Optimal Byzantine ML under Heterogeneity",
AISTATS 2023, Algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from defenses._checks import check_count
from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.gram import centred_gram, squared_distances
from fedalign.core.neighbours import nearest
from fedalign.core.vectors import combine, counted
from fedalign.core.wrapping import Wrapper


@dataclass(frozen=True)
class NNM(Wrapper):
    """`rule` on the means of every row's n - f nearest rows, itself included. f < n / 2.

    rule: any rule; it decides about mixed row i where it decided about row i, and where it gives
    coefficients they are handed back in terms of the original rows, acceptance with them.
    byzantine_count: f >= 0; None takes the context's. Memory of the rule lives under "rule".
    """

    rule: Defense
    byzantine_count: int | None = None

    def __post_init__(self) -> None:
        check_count("NNM", self.byzantine_count)

    def minimum(self, byzantine_count: int) -> int:
        return max(2 * byzantine_count + 1, self.rule.minimum(byzantine_count))

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        n, f = len(updates), context.byzantine(self.byzantine_count)
        require(self, n, f)
        near = nearest(squared_distances(centred_gram(updates)), n - f)
        mixture = near.to(torch.float64) / (n - f)
        inside = replace(context.inner("rule").mixed(mixture), byzantine_count=f)
        fixed = self.rule.test == "always" and self.rule.linear  # then its coefficients are mixed
        result = self.rule(updates if fixed else combine(mixture, updates), inside)
        memory = {"rule": result.memory} if result.memory else {}
        if result.coefficients is None:
            return replace(result, memory=memory)
        coefficients = mixture.T @ result.coefficients.to(mixture)
        vector = combine(coefficients, updates) if fixed else result.vector
        return replace(
            result,
            vector=vector,
            memory=memory,
            coefficients=coefficients,
            accepted=counted(coefficients),
        )
