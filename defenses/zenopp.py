"""Zeno++: scale every update to the length of the server's own, keep those that agree with it.

Paper: Xie et al., "Zeno++: Robust Fully Asynchronous SGD", ICML 2020, Algorithm 1 and Eq. 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.errors import ConfigError
from fedalign.core.moments import moments
from fedalign.core.threat import Family, Space


@dataclass(frozen=True)
class ZenoPP(Defense):
    """Mean of g_i = x_i |v| / |x_i| where step <v, g_i> - penalty |g_i|^2 + step slack >= 0.

    x_i and v are gradients in the paper, updates here (v is `context.root_update`): both change
    their sign, so the product keeps its own. With slack 0: cos(x_i, v) >= penalty / step.
    step: gamma > 0. penalty: rho >= 0; None is 0.002 gamma. slack: epsilon >= 0, in squared
    lengths. refresh: k >= 1, rounds for which one v is kept (memory: {"reference", "round"}).
    A row or reference of zeros has no direction: it is rejected.
    """

    step: float = 1.0
    penalty: float | None = None
    slack: float = 0.0
    refresh: int = 1

    needs: ClassVar[frozenset[str]] = frozenset({"root_update"})
    space: ClassVar[Space] = "update"
    family: ClassVar[Family] = "cosine"
    linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.step > 0 or not self.slack >= 0 or self.refresh < 1:
            raise ConfigError(
                "Zeno++ needs step > 0, slack >= 0 and refresh >= 1, got "
                f"{self.step}, {self.slack} and {self.refresh}."
            )
        if self.penalty is not None and not self.penalty >= 0:
            raise ConfigError(f"Zeno++'s penalty must be 0 or more, or null, got {self.penalty}.")

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        # The paper applies each accepted gradient as it arrives; a round averages the accepted.
        reference, memory = self._reference(context)
        squares, inner = moments(updates, reference)
        goal = moments(reference[None])[0].sqrt()
        lengths = squares.sqrt()
        factors = torch.where(lengths > 0, goal / torch.where(lengths > 0, lengths, 1), 0.0)
        penalty = 0.002 * self.step if self.penalty is None else self.penalty
        scores = self.step * (factors * inner + self.slack) - penalty * goal.square()
        accepted = (scores >= 0) & (factors > 0)
        if not bool(accepted.any()):
            return Aggregate.skip(updates, scores=scores, memory=memory)
        coefficients = torch.where(accepted, factors, 0.0) / accepted.sum()
        return Aggregate.combine(
            updates, coefficients, accepted=accepted, scores=scores, memory=memory
        )

    def _reference(self, context: Context) -> tuple[Tensor, dict[str, Any]]:
        kept = context.memory
        if kept and context.round - kept["round"] < self.refresh:
            return kept["reference"], dict(kept)
        if context.root_update is None:
            raise ConfigError(
                "Zeno++ needs the update of the server's root data, got a context without it: "
                "pass Context(root_update=...) or give the workload a root set."
            )
        if self.refresh == 1:
            return context.root_update, {}
        return context.root_update, {"reference": context.root_update, "round": context.round}
