"""A frozen model with adapters of our own that can be switched off, as the reference needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn


class Switch(nn.Module):
    """An adapter inside the model; `enabled` says whether it acts."""

    enabled: bool = True


class Host(nn.Module):
    """Calls go to the model; `disable_adapter` switches every adapter off for a while."""

    def __init__(self, model: nn.Module, adapters: Sequence[Switch]):
        super().__init__()
        self.model = model
        self._adapters = tuple(adapters)

    def forward(self, *inputs: Tensor, **more: object) -> object:
        return self.model(*inputs, **more)

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """The base model, bit for bit."""
        for adapter in self._adapters:
            adapter.enabled = False
        try:
            yield
        finally:
            for adapter in self._adapters:
                adapter.enabled = True


def replace_module(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put `new` where the module of this dotted name was."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, new)
