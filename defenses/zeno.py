"""Zeno: try every update on the server's data and keep those that lower the loss most.

Paper: Xie et al., "Zeno: Distributed Stochastic Gradient Descent with Suspicion-based
Fault-tolerance", ICML 2019, Definition 2 and Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import ClassVar

import torch
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.errors import ConfigError
from fedalign.core.moments import moments
from fedalign.core.threat import Family, Space


@dataclass(frozen=True)
class Zeno(Defense):
    """Mean of the n - b rows with the best score F(w) - F(w + step u_i) - penalty |u_i|^2.

    The paper's rows are gradients and step against them; ours are updates u_i = -gradient.
    byzantine_count: b >= 0, how many rows are dropped; None takes the context's f. step: gamma > 0,
    how far along the update the loss is tried. penalty: rho >= 0, loss per squared length.
    Costs n + 1 evaluations of `context.evaluate`; without `context.model` the model is 0.
    """

    byzantine_count: int | None = None
    step: float = 1.0
    penalty: float = 0.002

    needs: ClassVar[frozenset[str]] = frozenset({"evaluate"})
    space: ClassVar[Space] = "update"
    family: ClassVar[Family] = "other"
    linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.step > 0 or not self.penalty >= 0:
            raise ConfigError(
                f"Zeno needs step > 0 and penalty >= 0, got {self.step} and {self.penalty}."
            )

    def minimum(self, byzantine_count: int) -> int:
        return byzantine_count + 1

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        n, f = len(updates), context.byzantine(self.byzantine_count)
        require(self, n, f)
        if context.evaluate is None:
            raise ConfigError(
                "Zeno needs the server's evaluation, got a context without it: pass "
                "Context(evaluate=...), a function from a model (d,) to its loss."
            )
        scores = self._gains(updates, context) - self.penalty * moments(updates)[0].cpu()
        kept = torch.zeros(n, dtype=torch.bool)
        kept[scores.argsort(descending=True, stable=True)[: n - f]] = True
        return Aggregate.mean(updates, kept.to(updates.device), scores=scores)

    def _gains(self, updates: Tensor, context: Context) -> Tensor:
        """(n,): how far each update lowers the loss; one that ends in NaN or Inf is the worst."""
        model = torch.zeros_like(updates[0]) if context.model is None else context.model
        before = float(context.evaluate(model)["loss"])
        after = [float(context.evaluate(model + self.step * row)["loss"]) for row in updates]
        gains = [before - loss if isfinite(before - loss) else -1e300 for loss in after]
        return torch.tensor(gains, dtype=torch.float64)
