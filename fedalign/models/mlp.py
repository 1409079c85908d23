"""MLP: fully connected layers with ReLU between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from torch import nn

from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class Mlp:
    """hidden: widths of the hidden layers, each >= 1. Initialised uniform +-1/sqrt(fan_in).
    batching: how its clients train fastest, loop or vmap."""

    hidden: Sequence[int] = (64,)
    batching: str = "vmap"

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigError(
                f"model.hidden must list widths of 1 or more, got {list(self.hidden)}; try [64] "
                "(model=softmax has no hidden layer)."
            )

    def build(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        widths = [prod(input_shape), *self.hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
