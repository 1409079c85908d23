"""A part of one's own beside an adapter: an output layer, or a second LoRA that is added.

Papers: Arivazhagan et al., "Federated Learning with Personalization Layers", 2019 (the head); Hu et
al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (sums of updates).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fedalign.core.errors import ConfigError
from fedalign.models.host import Host, Switch, replace_module
from fedalign.models.low_rank import LowRank


@dataclass(frozen=True)
class WithLocal:
    """adapter: any. part: head, a trained copy of the output layer, untied from the embeddings;
    adapter, a second one like the first, which must be a LoRA. Local parts have `.local.` in their
    names, start without effect and are off in the reference."""

    adapter: Any
    part: Literal["head", "adapter"]

    @property
    def neutral(self) -> bool:
        """As the adapter: a local part changes nothing before it is trained."""
        return self.adapter.neutral

    @property
    def lr_scale(self) -> float:
        return self.adapter.lr_scale

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with its adapter and the local part; ConfigError for an adapter with words."""
        if isinstance(self.adapter, LowRank) and self.adapter.words:
            raise ConfigError(
                "Rows of words are trained by an adapter that is alone: take peft.words=[] with a "
                "local part, or an algorithm without one."
            )
        return self._headed(model) if self.part == "head" else self._twice(model)

    def _headed(self, model: nn.Module) -> nn.Module:
        output = model.get_output_embeddings()
        name = next(name for name, module in model.named_modules() if module is output)
        head = _Head(output)
        replace_module(model, name, head)
        wrapped = self.adapter.wrap(model)
        head.local.requires_grad_(True)
        return _Both(wrapped, [head])

    def _twice(self, model: nn.Module) -> nn.Module:
        if not isinstance(self.adapter, LowRank) or self.adapter.method == "vera":
            raise ConfigError(
                "A local adapter beside the shared one needs peft=lora or peft=dora, got "
                f"{type(self.adapter).__name__}: take one of them, or algorithm=personal_head."
            )
        wrapped = self.adapter.wrap(model)
        wrapped.add_adapter("local", deepcopy(wrapped.peft_config["default"]))
        wrapped.base_model.set_adapter(["default", "local"])
        return wrapped


class _Head(Switch):
    def __init__(self, base: nn.Linear):
        super().__init__()
        self.base = base
        self.local = nn.Linear(
            base.in_features, base.out_features, bias=base.bias is not None,
            device=base.weight.device, dtype=base.weight.dtype,
        )  # fmt: skip
        with torch.no_grad():
            for name, value in base.named_parameters():
                getattr(self.local, name).copy_(value)

    @property
    def weight(self) -> Tensor:
        """The base's, which transformers may ask for."""
        return self.base.weight

    def forward(self, states: Tensor) -> Tensor:
        return (self.local if self.enabled else self.base)(states)


class _Both(Host):
    """Switches off the adapter inside as well."""

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(super().disable_adapter())
            stack.enter_context(self.model.disable_adapter())
            yield
