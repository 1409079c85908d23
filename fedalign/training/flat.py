"""One model, built once, whose parameters and gradients are views of two flat vectors."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from fedalign.core.vectors import Layout
from fedalign.models.dropout import Dropout


class FlatModel:
    """A module without a memory of its own: load a vector, run, read the vector.

    vector, gradient: (d,), shared with every parameter of `module` and its `.grad`. random: its
    modules that draw numbers.
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
        self._parameters = list(trainables.values())
        self.random = [m for m in self.module.modules() if isinstance(m, Dropout) and m.draws]

    def load(self, vector: Tensor) -> None:
        """Copy a vector (d,) into the parameters."""
        self.vector.copy_(vector)

    def address(self, key: bytes) -> None:
        """What the module draws from now on are the numbers of `key`."""
        for place, module in enumerate(self.random):
            module.address(hashlib.sha256(key + bytes([place])).digest())

    def step(self, loss: Tensor, lr: float) -> None:
        """vector -= lr * the gradient of `loss`, tensor by tensor as backward leaves them: nothing
        is zeroed, added up or laid out, which large models notice."""
        gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.sub_(gradient, alpha=lr)
