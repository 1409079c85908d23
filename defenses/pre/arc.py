"""ARC: clip the longest updates to the next shorter one, as many as f asks for, then a rule.

Paper: Allouah et al., "Adaptive Gradient Clipping for Robust Federated Learning", ICLR 2025
(arXiv 2405.14432), Algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from defenses._checks import check_count
from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.moments import moments
from fedalign.core.vectors import blank, combine
from fedalign.core.wrapping import Wrapper


@dataclass(frozen=True)
class ARC(Wrapper):
    """`rule` after the floor(2 f (n - f) / n) longest updates are cut to the next length. f < n/2.

    rule: any rule. byzantine_count: f >= 0; None takes the context's. Lengths are those of
    updates. Coefficients are handed back in terms of the original rows.
    Memory of the rule lives under "rule".
    """

    rule: Defense
    byzantine_count: int | None = None

    def __post_init__(self) -> None:
        check_count("ARC", self.byzantine_count)

    def minimum(self, byzantine_count: int) -> int:
        return max(2 * byzantine_count + 1, self.rule.minimum(byzantine_count))

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        n, f = len(updates), context.byzantine(self.byzantine_count)
        require(self, n, f)
        factors = _factors(updates, clipped=2 * f * (n - f) // n)
        inside = replace(context.inner("rule"), byzantine_count=f)
        clipped, fixed = updates, f and self.rule.test == "always" and self.rule.linear
        if fixed:
            clipped = updates[:, :1]  # its coefficients look at no row: clip those
        elif f:
            scale = factors.to(updates.dtype)[:, None]
            clipped = torch.mul(updates, scale, out=blank(n, like=updates))
        result = self.rule(clipped, inside)
        memory = {"rule": result.memory} if result.memory else {}
        if result.coefficients is None:
            return replace(result, memory=memory)
        coefficients = result.coefficients.to(factors) * factors
        vector = combine(coefficients, updates) if fixed else result.vector
        return replace(result, vector=vector, memory=memory, coefficients=coefficients)


def _factors(updates: Tensor, clipped: int) -> Tensor:
    """(n,) at most 1: what the `clipped` longest rows are multiplied with."""
    lengths = moments(updates)[0].sqrt()
    order = lengths.sort(stable=True).indices
    threshold = lengths[order[len(order) - clipped - 1]]
    return torch.where(lengths > threshold, threshold / lengths, 1.0)
