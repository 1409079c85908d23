"""LFR: remove the clients without whom the aggregate has the lowest loss.

Paper: Fang et al., "Local Model Poisoning Attacks to Byzantine-Robust Federated Learning",
USENIX Security 2020, Section 5 (loss function based rejection).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.leave_one_out import removal_impacts
from fedalign.core.on_rows import on_rows
from fedalign.core.wrapping import Wrapper


@dataclass(frozen=True)
class LFR(Wrapper):
    """`rule` on the rows left after the f largest loss impacts F(A(X)) - F(A(X without i)).

    rule: A, any rule. byzantine_count: f >= 0; None takes the context's. Needs n > 2f, and as many
    rows left as the rule asks for. Costs n + 1 evaluations and aggregations (one aggregation where
    the rule's coefficients look at no row); none of them with f = 0. scores: the impacts.
    """

    rule: Defense
    byzantine_count: int | None = None

    @property
    def needs(self) -> frozenset[str]:
        return self.rule.needs | {"evaluate"}

    def minimum(self, byzantine_count: int) -> int:
        return max(2 * byzantine_count + 1, byzantine_count + self.rule.minimum(byzantine_count))

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        n, f = len(updates), context.byzantine(self.byzantine_count)
        require(self, n, f)
        context = replace(context, byzantine_count=f)
        keep = torch.ones(n, dtype=torch.bool, device=updates.device)
        if f == 0:
            return on_rows(self.rule, updates, keep, context)
        impacts = removal_impacts(self.rule, updates, context.inner("rule"), ["loss"])[:, 0]
        keep[impacts.argsort(descending=True, stable=True)[:f]] = False
        return replace(on_rows(self.rule, updates, keep, context), scores=impacts)
