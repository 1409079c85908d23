"""A small ResNet whose normalisation has no running statistics, so that every value is trained.

Paper: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, Section 4.2; group
normalisation instead of batch normalisation as in Hsieh et al., "The Non-IID Data Quagmire", 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import relu

from fedalign.core.errors import ConfigError
from fedalign.models.lenet import images


@dataclass(frozen=True)
class Resnet:
    """widths: channels per stage, each a multiple of `groups`; every stage after the first halves
    the image. blocks: residual blocks per stage (>= 1).
    batching: how its clients train fastest, loop or vmap."""

    widths: Sequence[int] = (16, 32, 64)
    blocks: int = 1
    groups: int = 8
    batching: str = "loop"

    def __post_init__(self) -> None:
        if self.blocks < 1 or not self.widths or any(w % self.groups for w in self.widths):
            raise ConfigError(
                f"model.widths {list(self.widths)} must be multiples of model.groups={self.groups} "
                f"and model.blocks={self.blocks} at least 1."
            )

    def build(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        images(input_shape, smallest=2 ** len(self.widths), model="resnet")
        first = self.widths[0]
        layers: list[nn.Module] = [
            nn.Conv2d(input_shape[0], first, 3, padding=1, bias=False),
            nn.GroupNorm(self.groups, first),
            nn.ReLU(),
        ]
        inward = first
        for stage, outward in enumerate(self.widths):
            for block in range(self.blocks):
                stride = 2 if stage and not block else 1
                layers.append(_Block(inward, outward, stride, self.groups))
                inward = outward
        return nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inward, classes)
        )


class _Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, inward: int, outward: int, stride: int, groups: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inward, outward, 3, stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(groups, outward)
        self.conv2 = nn.Conv2d(outward, outward, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, outward)
        same = stride == 1 and inward == outward
        self.around = nn.Identity() if same else nn.Conv2d(inward, outward, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        inner = relu(self.norm1(self.conv1(x)))
        return relu(self.norm2(self.conv2(inner)) + self.around(x))
