"""Virtual tokens: prompt tuning, P-tuning and prefix tuning in front of a frozen model.

Papers: Lester et al., "The Power of Scale for Parameter-Efficient Prompt Tuning", EMNLP 2021; Liu
et al., "GPT Understands, Too", 2021 (P-tuning); Li and Liang, "Prefix-Tuning: Optimizing Continuous
Prompts for Generation", ACL 2021, Section 4.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class VirtualTokens:
    """method: prompt, embeddings before the input; p_tuning, the same made by an encoder that is
    trained and sent too; prefix, keys and values before those of every layer. tokens: >= 1.
    encoder: width (>= 1) of P-tuning's encoder. lr_scale: > 0, multiplies the workload's learning
    rate, which is tuned for weights; virtual tokens want larger steps.

    Prompts start as embeddings of words and prefixes as what the model itself computes of words,
    both drawn anew for every model; still the untrained adapter changes answers, so that first
    losses differ from those at the reference, which is the model without virtual tokens.
    """

    method: Literal["prompt", "p_tuning", "prefix"] = "prompt"
    tokens: int = 8
    encoder: int = 64
    lr_scale: float = 10.0

    neutral = False

    def __post_init__(self) -> None:
        if self.method not in ("prompt", "p_tuning", "prefix"):
            raise ConfigError(
                f"peft.method must be prompt, p_tuning or prefix, got {self.method!r}."
            )
        if self.tokens < 1 or self.encoder < 1 or self.lr_scale <= 0:
            raise ConfigError(
                "peft needs tokens >= 1, encoder >= 1 and lr_scale above 0, got "
                f"{self.tokens}, {self.encoder} and {self.lr_scale}."
            )

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model behind its virtual tokens: only these (and their encoder) require gradients."""
        import peft

        common = {"task_type": "CAUSAL_LM", "num_virtual_tokens": self.tokens}
        words = torch.randint(model.config.vocab_size, (1, self.tokens))
        embedded = model.get_input_embeddings()(words)[0].detach()
        if self.method == "prompt":
            config, start = peft.PromptTuningConfig(**common), embedded
        elif self.method == "prefix":
            config, start = peft.PrefixTuningConfig(**common), _states(model, words)
        else:
            config, start = (
                peft.PromptEncoderConfig(**common, encoder_hidden_size=self.encoder),
                None,
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            wrapped = peft.get_peft_model(model, config)
        if start is not None:
            wrapped.prompt_encoder["default"].embedding.weight.data.copy_(start)
        return _Behind(wrapped)


@torch.no_grad()
def _states(model: nn.Module, words: Tensor) -> Tensor:
    """(tokens, 2 layers x heads x size), keys and values of every layer for these words (1, T)."""
    cache = model(input_ids=words, use_cache=True).past_key_values
    layers = [state for layer in cache.layers for state in (layer.keys, layer.values)]
    return torch.stack([s[0].transpose(0, 1).flatten(1) for s in layers], dim=1).flatten(1)


class _Behind(nn.Module):
    """Calls with a cache go past the virtual tokens, which the cache already holds."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor, past_key_values: object = None, **more: Any) -> Any:
        if past_key_values is not None:
            return self.model.base_model(*inputs, past_key_values=past_key_values, **more)
        return self.model(*inputs, **more)

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """The base model, bit for bit."""
        with self.model.disable_adapter():
            yield
