"""Houlsby adapters: a small bottleneck after attention and after the MLP of every layer.

Paper: Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019, Figure 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fedalign.core.errors import ConfigError
from fedalign.models.host import Host, Switch, replace_module


@dataclass(frozen=True)
class Houlsby:
    """h + U relu(D h + b_D) + b_U. width: of the bottleneck, >= 1. U starts at 0, so that the
    untrained adapter changes nothing."""

    width: int = 16

    neutral = True
    lr_scale = 1.0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"peft.width must be 1 or more, got {self.width}.")

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with two bottlenecks per layer: only they require gradients."""
        model.requires_grad_(False)
        names = [
            name
            for name, _ in model.named_modules()
            if name.rpartition(".")[2] in ("self_attn", "attention", "attn", "mlp")
        ]
        if not names:
            raise ConfigError(
                "Houlsby adapters stand behind modules called self_attn, attention or mlp, and this "
                "model has none: take peft=lora."
            )
        adapters, first = [], next(model.parameters())
        for name in names:
            inner = model.get_submodule(name)
            adapters.append(_After(inner, model.config.hidden_size, self.width).to(first))
            replace_module(model, name, adapters[-1])
        return Host(model, adapters)


class _After(Switch):
    def __init__(self, base: nn.Module, hidden: int, width: int):
        super().__init__()
        self.base = base
        self.down, self.up = nn.Linear(hidden, width), nn.Linear(width, hidden)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, *inputs: Any, **more: Any) -> Any:
        out = self.base(*inputs, **more)
        if not self.enabled:
            return out
        if isinstance(out, tuple):
            return (self._changed(out[0]), *out[1:])
        return self._changed(out)

    def _changed(self, h: torch.Tensor) -> torch.Tensor:  # (B, T, hidden)
        return h + self.up(torch.relu(self.down(h)))
