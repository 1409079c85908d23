"""FedAvg: the mean of all updates, no defense at all.

Paper: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017, Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from defenses._checks import check_choice, check_space
from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.errors import ConfigError
from fedalign.core.threat import Family, Space

Weighting = Literal["uniform", "samples"]


@dataclass(frozen=True)
class FedAvg(Defense):
    """sum_i w_i x_i. Tolerates no Byzantine client: one row moves the mean anywhere.

    weighting: "uniform", w_i = 1/n; or "samples", w_i proportional to `context.weights`, which a
    client can exaggerate. space: what attacks measure themselves against; the mean is the same.
    """

    weighting: Weighting = "uniform"
    space: Space = "model"

    family: ClassVar[Family] = "other"
    test: ClassVar[Literal["always"]] = "always"

    def __post_init__(self) -> None:
        check_choice("FedAvg", "weighting", self.weighting, get_args(Weighting))
        check_space("FedAvg", self.space)

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        everyone = torch.ones(len(updates), dtype=torch.bool, device=updates.device)
        if self.weighting == "uniform":
            return Aggregate.mean(updates, everyone)
        if context.weights is None:
            raise ConfigError(
                "FedAvg with weighting='samples' needs the sample counts, got none: "
                "pass Context(weights=...) or choose weighting='uniform'."
            )
        weights = context.weights.to(device=updates.device, dtype=torch.float64)
        return Aggregate.combine(updates, weights / weights.sum(), accepted=everyone)
