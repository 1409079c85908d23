"""A tiny causal language model, built from a configuration and taught once.

Papers: Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023; Parmar et al.,
"Nemotron-4 15B Technical Report", 2024 (squared ReLU, grouped heads, untied embeddings).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from fedalign.core.errors import ConfigError
from fedalign.core.seeds import seeded


@dataclass(frozen=True)
class TinyLm:
    """family: llama (tied embeddings) or nemotron (untied). vocabulary: embeddings, at least the
    words of the data. hidden, layers, heads, mlp: sizes, heads divide hidden. key_heads: of
    nemotron, divide heads. teach_steps, teach_batch, teach_lr: how it learns the data's
    demonstrations before any run: AdamW, one cycle, all weights. seed: of its first weights.
    """

    family: Literal["llama", "nemotron"] = "llama"
    vocabulary: int = 192
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    key_heads: int = 2
    mlp: int = 352
    teach_steps: int = 500
    teach_batch: int = 64
    teach_lr: float = 0.002
    seed: int = 0

    def __post_init__(self) -> None:
        if self.family not in ("llama", "nemotron"):
            raise ConfigError(f"model.family must be llama or nemotron, got {self.family!r}.")
        sizes = ("vocabulary", "hidden", "layers", "heads", "key_heads", "mlp", "teach_batch")
        for name in sizes:
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name} must be 1 or more, got {getattr(self, name)}.")
        if self.hidden % (2 * self.heads) or self.heads % self.key_heads:
            raise ConfigError(
                f"model.hidden={self.hidden} must be a multiple of 2 x heads={self.heads}, and "
                f"heads a multiple of key_heads={self.key_heads}."
            )
        if self.teach_steps < 0 or self.teach_lr <= 0:
            raise ConfigError(
                "model.teach_steps must be 0 or more and teach_lr above 0, got "
                f"{self.teach_steps} and {self.teach_lr}."
            )

    def build(self, words: int) -> nn.Module:
        """Fresh weights; words: how many token numbers the data uses."""
        if words > self.vocabulary:
            raise ConfigError(
                f"The data uses {words} words: raise model.vocabulary from {self.vocabulary}."
            )
        import transformers

        common = {
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.mlp,
            "max_position_embeddings": 512,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        with seeded(self.seed):
            if self.family == "llama":
                config = transformers.LlamaConfig(**common, tie_word_embeddings=True)
                return transformers.LlamaForCausalLM(config)
            config = transformers.NemotronConfig(
                **common, num_key_value_heads=self.key_heads, tie_word_embeddings=False
            )
            return transformers.NemotronForCausalLM(config)
