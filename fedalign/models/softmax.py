"""Softmax regression: one linear layer."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import nn


@dataclass(frozen=True)
class Softmax:
    """Multinomial logistic regression on flattened inputs.

    batching: how its clients train fastest, loop or vmap; here and below set from measurement.
    """

    batching: str = "vmap"

    def build(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(prod(input_shape), classes))
