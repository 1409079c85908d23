"""ERR: remove the clients without whom the aggregate errs least, or those and LFR's together.

Paper: Fang et al., "Local Model Poisoning Attacks to Byzantine-Robust Federated Learning",
USENIX Security 2020, Section 5 (error rate based rejection, and the union of both).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.errors import ConfigError
from fedalign.core.leave_one_out import removal_impacts
from fedalign.core.on_rows import on_rows
from fedalign.core.wrapping import Wrapper


@dataclass(frozen=True)
class ERR(Wrapper):
    """`rule` on the rows left after the f largest impacts on the error rate 1 - accuracy.

    rule: A, any rule. remove: "error", or "union": whoever has one of the f largest impacts on
    the error rate or on the loss. byzantine_count: f >= 0; None takes the context's. Needs n > 2f,
    and as many rows left (n - f, union n - 2f) as the rule asks for. Costs n + 1 evaluations and
    aggregations (one aggregation where the rule's coefficients look at no row); none of them with
    f = 0. scores: the impacts on the error rate.
    """

    rule: Defense
    remove: Literal["error", "union"] = "error"
    byzantine_count: int | None = None

    def __post_init__(self) -> None:
        if self.remove not in ("error", "union"):
            raise ConfigError(f"ERR removes by 'error' or 'union', got '{self.remove}'.")

    @property
    def needs(self) -> frozenset[str]:
        return self.rule.needs | {"evaluate"}

    def minimum(self, byzantine_count: int) -> int:
        removed = byzantine_count if self.remove == "error" else 2 * byzantine_count
        return max(2 * byzantine_count + 1, removed + self.rule.minimum(byzantine_count))

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        n, f = len(updates), context.byzantine(self.byzantine_count)
        require(self, n, f)
        context = replace(context, byzantine_count=f)
        keep = torch.ones(n, dtype=torch.bool, device=updates.device)
        if f == 0:
            return on_rows(self.rule, updates, keep, context)
        metrics = ["error"] if self.remove == "error" else ["error", "loss"]
        impacts = removal_impacts(self.rule, updates, context.inner("rule"), metrics)
        for column in impacts.T:
            keep[column.argsort(descending=True, stable=True)[:f]] = False
        return replace(on_rows(self.rule, updates, keep, context), scores=impacts[:, 0])
