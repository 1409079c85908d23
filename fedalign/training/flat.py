"""One model, built once, whose parameters and gradients are views of two flat vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedalign.core.vectors import Layout


class FlatModel:
    """A module without a memory of its own: load a vector, run, read the vector.

    vector, gradient: (d,), shared with every parameter of `module` and its `.grad`.
    """

    def __init__(self, module: nn.Module, device: torch.device):
        self.module = module.to(device)
        trainables = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.layout = Layout.of({name: p.shape for name, p in trainables.items()})
        self.vector = self.layout.flatten(trainables)
        self.gradient = torch.zeros_like(self.vector)
        views, gradients = self.layout.views(self.vector), self.layout.views(self.gradient)
        for name, parameter in trainables.items():
            parameter.data, parameter.grad = views[name], gradients[name]

    def load(self, vector: Tensor) -> None:
        """Copy a vector (d,) into the parameters."""
        self.vector.copy_(vector)
