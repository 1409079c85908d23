"""Norm clipping: shorten every update that is too long, then average.

Paper: Sun et al., "Can You Really Backdoor Federated Learning?", arXiv 1911.07963, 2019,
Section 3 (norm thresholding and weak differential privacy).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from defenses._checks import check, check_space
from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.moments import moments
from fedalign.core.threat import Family, Space


@dataclass(frozen=True)
class NormClip(Defense):
    """Mean of x_i min(1, C / |x_i|). Bounds the influence of f clients by f C / n.

    bound: C > 0, a length; None takes the median length. noise: sigma >= 0, standard deviation
    added to every coordinate, drawn from `context.rng`. space: clip "update"s or "model"s (where
    `context.model` is given). scores: (n,) lengths before clipping. With noise, or in model
    space, the result is no combination of rows alone: no coefficients.
    """

    bound: float | None = None
    noise: float = 0.0
    space: Space = "update"

    family: ClassVar[Family] = "norm"

    def __post_init__(self) -> None:
        check(
            self.bound is None or self.bound > 0,
            "NormClip",
            "bound",
            "positive or null",
            self.bound,
        )
        check(self.noise >= 0, "NormClip", "noise", "0 or more", self.noise)
        check_space("NormClip", self.space)

    @property
    def linear(self) -> bool:
        return self.noise == 0 and self.space == "update"

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        model = context.model if self.space == "model" else None
        lengths = moments(updates, shift=model)[0].sqrt()
        bound = float(lengths.quantile(0.5)) if self.bound is None else self.bound
        factors = torch.where(lengths > bound, bound / lengths, 1.0)
        result = Aggregate.combine(
            updates, factors / len(updates), scores=lengths, notes={"bound": bound}
        )
        if model is not None:  # mean of f_i (x_i + w) - w
            result = _plus(result, (factors.mean() - 1) * model.double())
        return _plus(result, self._drawn(context.rng, updates)) if self.noise else result

    def _drawn(self, rng: np.random.Generator, updates: Tensor) -> Tensor:
        drawn = torch.from_numpy(rng.standard_normal(updates.shape[1])).to(updates.device)
        return self.noise * drawn


def _plus(result: Aggregate, more: Tensor) -> Aggregate:
    vector = (result.vector + more).to(result.vector.dtype)
    return replace(result, vector=vector, coefficients=None)
