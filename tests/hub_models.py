"""Hugging Face models of a few thousand weights in folders, with tokenizers made on the spot."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
FAMILIES = ("qwen2", "llama", "gpt2")


def tokenizer(pad=None, chat: str | None = CHAT, end: str | None = "<eos>"):
    """Bytes and an end mark; no pad token unless asked for."""
    words = {word: i for i, word in enumerate(("<bos>", "<eos>"))}
    for byte in sorted(pre_tokenizers.ByteLevel.alphabet()):
        words[byte] = len(words)
    made = Tokenizer(models.BPE(vocab=words, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    found = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<bos>", eos_token=end, pad_token=pad
    )
    found.chat_template = chat
    return found


def model(family: str, seed: int = 0, words: int = 272):
    """Random weights, two layers of width 32."""
    common = {"vocab_size": words, "bos_token_id": 0, "eos_token_id": 1}
    sizes = {
        **common, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 256,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if family == "qwen2":
            return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**sizes))
        if family == "llama":
            return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 256}
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(**common, **shape))


def saved(folder: Path, family: str = "qwen2", **more) -> str:
    """A folder as `save_pretrained` leaves it; returns its name."""
    model(family).save_pretrained(folder)
    tokenizer(**more).save_pretrained(folder)
    return str(folder)


def write(path: Path, rows) -> Path:
    """Rows as .jsonl or .jsonl.gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def dialogues(count: int):
    """hh-rlhf rows: polite answers are chosen."""
    for i in range(count):
        prompt = f"\n\nHuman: What is {i}?\n\nAssistant:"
        yield {"chosen": f"{prompt} It is {i}, thanks.", "rejected": f"{prompt} No {i * 7}!"}
