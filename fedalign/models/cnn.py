"""CNN: two 3 x 3 convolutions, max pooling, dropout and two linear layers, as in benchmarks.

Paper: Granqvist et al., "pfl-research: simulation framework for accelerating research in private
federated learning", arXiv 2404.06430 (the network of its CIFAR-10 benchmark).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedalign.core.errors import ConfigError
from fedalign.models.dropout import Dropout
from fedalign.models.lenet import images


@dataclass(frozen=True)
class Cnn:
    """channels: of the two convolutions. hidden: width of the linear layer. dropout: rates after
    the pooling and after that layer, multiples of 1/256 in [0, 1). For images (C, H, W) of at
    least 6 x 6; 32 x 32 x 3 and 10 classes make 1,626,442 parameters.
    batching: how its clients train fastest; with dropout, loop is the only way."""

    channels: Sequence[int] = (32, 64)
    hidden: int = 128
    dropout: Sequence[float] = (0.25, 0.5)
    batching: str = "loop"

    def __post_init__(self) -> None:
        if (
            len(self.channels) != 2
            or min(*self.channels, self.hidden) < 1
            or len(self.dropout) != 2
        ):
            raise ConfigError(
                "model=cnn has two channels of 1 or more, hidden of 1 or more and two dropout "
                f"rates; got {list(self.channels)}, {self.hidden}, {list(self.dropout)}."
            )

    def build(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        images(input_shape, smallest=6, model="cnn")
        first, second = self.channels
        features = nn.Sequential(
            _Pixels(),
            nn.Conv2d(input_shape[0], first, 3),
            nn.ReLU(),
            nn.Conv2d(first, second, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        height, width = ((side - 4) // 2 for side in input_shape[1:])
        return nn.Sequential(
            *features,
            Dropout(self.dropout[0]),
            nn.Flatten(),
            nn.Linear(second * height * width, self.hidden),
            nn.ReLU(),
            Dropout(self.dropout[1]),
            nn.Linear(self.hidden, classes),
        )


class _Pixels(nn.Module):
    """Images with the channels of a pixel side by side: convolution and pooling on a CPU are
    several times as fast, values and shapes are the same."""

    def forward(self, x: Tensor) -> Tensor:  # (n, c, h, w)
        return x.contiguous(memory_format=torch.channels_last)
