"""FLTrust: trust a client as far as it points where the server's own clean data points.

Paper: Cao et al., "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping",
NDSS 2021, Algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.errors import ConfigError
from fedalign.core.moments import moments
from fedalign.core.threat import Family, Space
from fedalign.core.vectors import combine, counted


@dataclass(frozen=True)
class FLTrust(Defense):
    """sum TS_i x_i |g0| / |x_i| / sum TS_i with TS_i = max(0, cos(x_i, g0)). Any f < n.

    space: what is compared. "update": x_i are updates, g0 is `context.root_update`. "model":
    x_i and g0 are `context.model` plus those, and the aggregate, a model, is handed back minus
    `context.model`; it is no combination of updates then, so there are no `coefficients`.
    scores are the TS_i. Nobody trusted: the round is skipped.
    """

    space: Space = "model"

    needs: ClassVar[frozenset[str]] = frozenset({"root_update"})
    family: ClassVar[Family] = "cosine"
    test: ClassVar[Literal["weighted"]] = "weighted"

    def __post_init__(self) -> None:
        if self.space not in ("update", "model"):
            raise ConfigError(f"FLTrust compares space 'update' or 'model', got '{self.space}'.")

    @property
    def linear(self) -> bool:
        return self.space == "update"

    def minimum(self, byzantine_count: int) -> int:
        return byzantine_count + 1

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        require(self, len(updates), context.byzantine_count or 0)
        if context.root_update is None:
            raise ConfigError(
                "FLTrust needs the update of the server's root data, got a context without it: "
                "pass Context(root_update=...) or give the workload a root set."
            )
        model = context.model if self.space == "model" else None
        reference = context.root_update if model is None else context.root_update + model
        squares, inner = moments(updates, reference, model)
        length = moments(reference[None])[0].sqrt()
        trust = (_ratio(inner, squares.sqrt() * length)).clamp(min=0)
        total = trust.sum()
        if total == 0:
            return Aggregate.skip(updates, scores=trust)
        share = trust / total
        result = Aggregate.combine(
            updates,
            share * _ratio(length.expand_as(trust), squares.sqrt()),
            accepted=counted(share),
            scores=trust,
        )
        return result if model is None else _as_update(result, updates, model)


def _as_update(result: Aggregate, updates: Tensor, model: Tensor) -> Aggregate:
    """sum c_i (u_i + m) - m = sum c_i u_i + (sum c_i - 1) m."""
    rest = result.coefficients.sum().reshape(1) - 1
    vector = result.vector.double() + combine(rest, model[None].double())
    return replace(result, vector=vector.to(updates.dtype), coefficients=None)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """0 where the denominator is: a row of zeros points nowhere."""
    safe = torch.where(denominator > 0, denominator, 1)
    return torch.where(denominator > 0, numerator / safe, 0)
