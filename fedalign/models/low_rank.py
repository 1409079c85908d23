"""Low-rank adapters: LoRA, DoRA and VeRA, on the linear layers of a frozen model.

Papers: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022; Liu et al.,
"DoRA: Weight-Decomposed Low-Rank Adaptation", ICML 2024; Kopiczko et al., "VeRA: Vector-based
Random Matrix Adaptation", ICLR 2024.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import nn

from fedalign.core.errors import ConfigError

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class LowRank:
    """method: lora, dora or vera. rank: r >= 1. alpha: > 0, the update is scaled by alpha / r (VeRA
    has no such scale). targets: names of linear layers; "linear" takes all of a block that the
    model has. dropout: in [0, 1), for supervised tuning only. words: of LoRA and DoRA, whose rows of
    the embeddings are trained as well, of tied output embeddings too: words that the model has
    never met can be told apart by nothing else. Token numbers; in a config also words of
    data=graded_facts and groups of them (labels, names, digits). Every forward pass copies the
    embeddings then. freeze_a: of LoRA, train and send B alone, half the bytes; the mean of products
    is the product of means then (Sun et al., "Improving LoRA in Privacy-preserving Federated
    Learning", ICLR 2024, Section 4). The untrained adapter changes nothing."""

    method: Literal["lora", "dora", "vera"] = "lora"
    rank: int = 8
    alpha: float = 16.0
    targets: Sequence[str] = ("linear",)
    dropout: float = 0.0
    words: Sequence[str | int] = ()
    freeze_a: bool = False

    neutral = True
    lr_scale = 1.0

    def __post_init__(self) -> None:
        if self.method not in ("lora", "dora", "vera"):
            raise ConfigError(f"peft.method must be lora, dora or vera, got {self.method!r}.")
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                "peft needs rank >= 1, alpha > 0 and dropout in [0, 1), got "
                f"{self.rank}, {self.alpha} and {self.dropout}."
            )
        if self.words and self.method == "vera":
            raise ConfigError(
                "peft.words are rows that LoRA and DoRA can train beside their factors, VeRA cannot: "
                "take peft=lora or peft=dora, or peft.words=[]."
            )
        if self.freeze_a and self.method != "lora":
            raise ConfigError(
                f"peft.freeze_a trains LoRA's B alone, {self.method} has other factors: take "
                "peft=lora, or peft.freeze_a=false."
            )

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with its adapter: only the adapter's weights require gradients."""
        import peft

        names = targets_of(model, self.targets, turned=self.method != "vera")
        turned = any(_is_turned(m) for n, m in model.named_modules() if n.endswith(tuple(names)))
        if self.method == "vera":
            with warnings.catch_warnings():  # every client draws the projections from this key
                warnings.filterwarnings("ignore", "Specified to not save vera_A", UserWarning)
                config = peft.VeraConfig(
                    r=self.rank, target_modules=names, vera_dropout=self.dropout,
                    save_projection=False, projection_prng_key=0, task_type="CAUSAL_LM",
                )  # fmt: skip
        else:
            config = peft.LoraConfig(
                r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=names,
                use_dora=self.method == "dora", fan_in_fan_out=turned, task_type="CAUSAL_LM",
                trainable_token_indices=self._rows(model),
            )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
            adapted = peft.get_peft_model(model, config)
        if self.freeze_a:
            for name, weight in adapted.named_parameters():
                weight.requires_grad_(weight.requires_grad and "lora_A" not in name)
        return adapted

    def _rows(self, model: nn.Module) -> list[int] | None:
        """Token numbers in order, each once; None for no words."""
        if not self.words:
            return None
        if unknown := [word for word in self.words if not isinstance(word, int)]:
            raise ConfigError(
                f"peft.words names {unknown}, and only data=graded_facts knows words by name: give "
                "token numbers of the model's tokenizer."
            )
        rows, count = sorted(set(self.words)), len(model.get_input_embeddings().weight)
        if rows[0] < 0 or rows[-1] >= count:
            raise ConfigError(
                f"peft.words must be token numbers in 0 .. {count - 1} of this model, got {rows}."
            )
        return rows


def lora_size(model: nn.Module, adapter: object) -> int:
    """How many numbers LoRA trains on the layers that the adapter is for, at its rank, on a model
    that has none yet; an adapter without rank or layers is held against LoRA as it is by default."""
    own = getattr(adapter, "adapter", adapter)  # beside a local part
    rank, targets = getattr(own, "rank", LowRank.rank), getattr(own, "targets", LowRank.targets)
    names = set(targets_of(model, targets, turned=True))
    layers = [m for name, m in model.named_modules() if name.rpartition(".")[2] in names]
    return rank * sum(sum(m.weight.shape) for m in layers if isinstance(m.weight, nn.Parameter))


def targets_of(model: nn.Module, asked: Sequence[str], turned: bool = False) -> list[str]:
    """Names of linear layers that the model has; ConfigError where one is missing. "linear" takes
    those of a block by their usual names; a model without any (GPT-2, GPT-NeoX) gives all of its
    own but the output layer. turned: GPT-2's layers, which keep their weights transposed, will do.
    """
    output = model.get_output_embeddings() if isinstance(model, _Speaks) else None
    last = {
        name.rpartition(".")[2]
        for name, m in model.named_modules()
        if (isinstance(m, nn.Linear) or (turned and _is_turned(m))) and m is not output
    }
    usual = [name for name in LINEAR if name in last] or sorted(last)
    names = [name for word in asked for name in (usual if word == "linear" else (word,))]
    found = [name for name in names if name in last]
    missing = [name for name in names if name not in last and name not in LINEAR]
    if missing or not found:
        raise ConfigError(
            f"peft.targets {list(asked)} do not fit this model: it has {sorted(last)} or 'linear'."
        )
    return found


@runtime_checkable
class _Speaks(Protocol):
    def get_output_embeddings(self) -> nn.Module | None: ...


def _is_turned(module: nn.Module) -> bool:
    """Whether this is GPT-2's layer `x W + b`, W (d_in, d_out)."""
    return type(module).__name__ == "Conv1D"
