"""Text base: a Hugging Face model that fits the text it is to read, and what a log says of both."""

from __future__ import annotations

from typing import Any

from torch import nn

from fedalign.core.errors import ConfigError
from fedalign.data.text_preferences import TextPreferences
from fedalign.models.causal_lm import CausalLm, Writing
from fedalign.workloads.text_holdings import TextHoldings


def opened(model: Any, data: TextPreferences) -> tuple[nn.Module, Writing, str]:
    """The frozen model, how it reads and writes, and what names its weights; ConfigError where it
    has no tokenizer or reads less than the data's longest rows."""
    if not isinstance(model, CausalLm):
        raise ConfigError(
            f"data={data.source.name} is text and needs a model with a tokenizer: take "
            "model=hf model.name=FOLDER_OR_NAME, or data=graded_facts for the tiny model."
        )
    module, writing, name = model.load()
    longest = getattr(module.config, "max_position_embeddings", None)
    most = data.max_tokens + data.answer_tokens
    if longest is not None and most > longest:
        raise ConfigError(
            f"data.max_tokens + data.answer_tokens is {most}, but {model.name} reads {longest} "
            "tokens at most: lower them."
        )
    return module, writing, name


def told(model: CausalLm, data: TextPreferences, found: TextHoldings, base: str) -> str:
    """Files, rows left out or cut and why, model and prompt format."""
    left = "".join(f"; {n} rows: {why}" for why, n in sorted(found.skipped.items()) if n)
    return (
        f"{data.source.name} ({', '.join(file.name for file in found.files)}{left}), "
        f"{model.name} (prompts {model.prompt_format}, base {base[:12]})"
    )
