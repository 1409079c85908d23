"""How a frozen model runs: in bfloat16, and with layers that are computed again for the backward pass.

Paper: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from fedalign.core.errors import ConfigError

PRECISIONS = ("float32", "bfloat16")


def narrow(module: nn.Module, precision: str, device: torch.device) -> nn.Module:
    """The module; at bfloat16 its forward pass multiplies in bfloat16 wherever it is called from.
    Weights keep their type, log-probabilities and losses stay float32."""
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be {' or '.join(PRECISIONS)}, got {precision!r}.")
    if precision == "bfloat16":
        module.forward = torch.autocast(device.type, torch.bfloat16)(module.forward)
    return module


@contextmanager
def recomputing(module: nn.Module, wanted: bool) -> Iterator[None]:
    """While it lasts, layers keep their inputs alone, if wanted. Dropout stays off: only the layers
    themselves are told that they train, not what is inside them."""
    if not wanted:
        yield
        return
    from transformers.modeling_layers import GradientCheckpointingLayer
    from transformers.modeling_utils import PreTrainedModel

    bases = [m for m in module.modules() if isinstance(m, PreTrainedModel)]
    layers = [m for m in module.modules() if isinstance(m, GradientCheckpointingLayer)]
    if not bases or not layers:
        raise ConfigError(
            "workload.recompute needs a model whose layers can be computed again, and this one has "
            "none: take workload.recompute=false and a smaller workload.micro_batch."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # its new name is younger than what we allow
        bases[0].gradient_checkpointing_enable({"use_reentrant": False})
    try:
        for layer in layers:
            layer.training = True
        yield
    finally:
        for layer in layers:
            layer.training = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            bases[0].gradient_checkpointing_disable()
