"""LeNet-5: two convolutions with pooling, three linear layers.

Paper: LeCun et al., "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 1998.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class Lenet:
    """For images (C, H, W) of at least 12 x 12; ReLU and max pooling as in today's versions.
    batching: how its clients train fastest, loop or vmap."""

    batching: str = "loop"

    def build(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        images(input_shape, smallest=12, model="lenet")
        channels, height, _ = input_shape
        features = nn.Sequential(
            nn.Conv2d(channels, 6, 5, padding=2 if height < 32 else 0),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        flat = features(torch.zeros(1, *input_shape)).shape[1]
        head = (
            nn.Linear(flat, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )
        return nn.Sequential(*features, *head)


def images(input_shape: tuple[int, ...], smallest: int, model: str) -> None:
    """Refuse inputs that are no images or too small for the pooling."""
    if len(input_shape) != 3 or min(input_shape[1:]) < smallest:
        raise ConfigError(
            f"model={model} needs images (C, H, W) of at least {smallest} x {smallest}, this data "
            f"has inputs of shape {tuple(input_shape)}: take model=mlp or model=softmax."
        )
