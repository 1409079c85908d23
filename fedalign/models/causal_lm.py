"""A causal language model of the Hugging Face Hub or of a folder, with its tokenizer.

Source: Wolf et al., "Transformers: State-of-the-Art Natural Language Processing", EMNLP 2020.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from fedalign.core.digest import of_files
from fedalign.core.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_WANTED = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


@dataclass(frozen=True)
class CausalLm:
    """name: a folder with config.json, safetensors weights and a tokenizer, or a repository of the
    Hub (Qwen/Qwen2.5-0.5B-Instruct), which is taken from the local cache; from the network only
    where `online` is true and HF_HUB_OFFLINE is not set. revision: branch, tag or commit of a
    repository. dtype: of the frozen weights, float32 or bfloat16; adapters stay float32.

    prompt_format: chat, the tokenizer's own chat template; dialogue, Human and Assistant turns as
    hh-rlhf writes them; plain, the texts under each other. attention: sdpa, eager or
    flash_attention_2. Code that comes with a model is never run.

    On data=graded_facts the model's embeddings are cut down to the words of that world, each word a
    token of the model, and it is taught the demonstrations before any run, all weights: teach_steps
    (0: not at all), teach_batch, teach_lr as of model=tiny_lm; seed: of the order of that teaching.
    """

    name: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    prompt_format: Literal["chat", "dialogue", "plain"] = "chat"
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    online: bool = False
    teach_steps: int = 500
    teach_batch: int = 64
    teach_lr: float = 0.0001
    seed: int = 0

    def __post_init__(self) -> None:
        for key, options in (
            ("dtype", tuple(DTYPES)), ("prompt_format", ("chat", "dialogue", "plain")),
            ("attention", ("sdpa", "eager", "flash_attention_2")),
        ):  # fmt: skip
            if getattr(self, key) not in options:
                raise ConfigError(
                    f"model.{key} must be one of {', '.join(options)}, got {getattr(self, key)!r}."
                )
        if not isinstance(self.name, str) or not self.name.strip():
            raise ConfigError(
                "model=hf needs model.name: a folder, or a repository of the Hugging Face Hub such "
                f"as Qwen/Qwen2.5-0.5B-Instruct; got {self.name!r}."
            )
        if self.teach_steps < 0 or self.teach_batch < 1 or self.teach_lr <= 0:
            raise ConfigError(
                "model.teach_steps must be 0 or more, teach_batch 1 or more and teach_lr above 0, "
                f"got {self.teach_steps}, {self.teach_batch} and {self.teach_lr}."
            )
        if self.online and _offline():
            raise ConfigError(
                "model.online=true, but HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids the "
                "network: unset it, or take model.online=false and a local copy."
            )

    def load(self) -> tuple[nn.Module, Writing, str]:
        """The frozen model, how it reads and writes, and the hash of its files."""
        import transformers

        folder = self._folder()
        _complete(folder, self.name)
        transformers.utils.logging.disable_progress_bar()
        try:
            module = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=DTYPES[self.dtype], attn_implementation=self.attention,
                local_files_only=True, use_safetensors=True, trust_remote_code=False,
            )  # fmt: skip
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # the library raises nearly every kind
            raise ConfigError(
                f"model.name={self.name}: {folder} cannot be loaded as a causal language model "
                f"({type(error).__name__}: {str(error).splitlines()[0]})."
            ) from error
        names = _counted(folder)
        writing = Writing(tokenizer, self.prompt_format, self.name, _vocabulary(module))
        return module.requires_grad_(False).eval(), writing, of_files(names, folder)

    def build(self, words: int) -> nn.Module:
        """The model with a vocabulary of `words` tokens only: the end mark stands at 2, as in the
        world's numbering, the others are the first ones of the tokenizer that are no special marks.
        """
        if self.dtype != "float32":
            raise ConfigError(
                "On data=graded_facts a model is taught in float32: take model.dtype=float32, and "
                "precision=bfloat16 for what follows."
            )
        module, writing, _ = self.load()
        numbers = writing.plain(words - 1)
        numbers.insert(2, writing.end)
        rows = {"get_input_embeddings": None, "get_output_embeddings": None}
        for name in rows:
            rows[name] = getattr(module, name)().weight[numbers].clone()
        module.resize_token_embeddings(words, mean_resizing=False)
        with torch.no_grad():
            for name, weight in rows.items():
                getattr(module, name)().weight.copy_(weight)
        return module.requires_grad_(True)

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decides its weights after teaching; the files, not where they lie."""
        taught = ("teach_steps", "teach_batch", "teach_lr", "seed")
        folder = self._folder()
        _complete(folder, self.name)
        return {
            "files": of_files(_counted(folder), folder),
            **{k: getattr(self, k) for k in taught},
        }

    def _folder(self) -> Path:
        """Where the files lie; ConfigError says where they were looked for."""
        path = Path(self.name).expanduser()
        if path.is_dir():
            return path.resolve()
        if self.name.startswith(("/", ".", "~")) or self.name.count("/") != 1:
            raise ConfigError(
                f"model.name={self.name}: there is no folder {path.absolute()}, and a repository "
                "of the Hub is called OWNER/NAME."
            )
        from huggingface_hub import constants, snapshot_download

        try:
            found = snapshot_download(
                self.name, revision=self.revision, local_files_only=not self.online,
                allow_patterns=list(_WANTED),
            )  # fmt: skip
        except Exception as error:
            network = (
                f"nor on the Hub ({type(error).__name__}: {str(error).splitlines()[0]})"
                if self.online
                else "and the network was not asked (model.online=false)"
            )
            revision = f" at revision {self.revision}" if self.revision else ""
            raise ConfigError(
                f"model.name={self.name}{revision} was found neither as a folder "
                f"{path.absolute()} nor in the cache {constants.HF_HUB_CACHE}, {network}. Put it "
                "there, give a folder, or allow the download with model.online=true."
            ) from error
        return Path(found)


class Writing:
    """A tokenizer: dialogues to token numbers, and back. words: how many token numbers may be
    drawn. end: the token that ends an answer. source: the model's name, for messages."""

    def __init__(self, tokenizer: Any, prompt_format: str, source: str, vocabulary: int):
        self._tokenizer, self._format, self._source = tokenizer, prompt_format, source
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                f"The tokenizer of {source} has no end-of-sequence token, so that answers could "
                "not end: set eos_token in its tokenizer_config.json."
            )
        if prompt_format == "chat" and not tokenizer.chat_template:
            raise ConfigError(
                f"The tokenizer of {source} has no chat template: take "
                "model.prompt_format=dialogue or model.prompt_format=plain."
            )
        if len(tokenizer) > vocabulary:
            raise ConfigError(
                f"The tokenizer of {source} knows {len(tokenizer)} tokens, its model {vocabulary}: "
                "they do not belong together."
            )
        self.end, self.words = int(tokenizer.eos_token_id), len(tokenizer)

    def prompt(self, turns: Sequence[tuple[str, str]]) -> list[int]:
        """Turns (role, text), the last the user's -> token numbers that an answer follows."""
        if self._format == "chat":
            messages = [{"role": role, "content": text} for role, text in turns]
            try:
                return list(
                    self._tokenizer.apply_chat_template(
                        messages, add_generation_prompt=True, tokenize=True, return_dict=False
                    )
                )
            except Exception as error:
                raise ConfigError(
                    f"The chat template of {self._source} refuses a dialogue of the roles "
                    f"{[role for role, _ in turns]} ({error}): take model.prompt_format=dialogue."
                ) from error
        if self._format == "dialogue":
            names = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: ", "system": ""}
            text = "".join(names[role] + said for role, said in turns) + "\n\nAssistant:"
        else:
            text = "\n".join(said for _, said in turns) + "\n"
        begin = self._tokenizer.bos_token_id
        return [*([] if begin is None else [int(begin)]), *self._plain(text)]

    def answer(self, text: str) -> list[int]:
        """An answer without its end mark; encoded alone, so that no token straddles the border."""
        return self._plain(f" {text}" if self._format == "dialogue" else text)

    def plain(self, count: int) -> list[int]:
        """The first `count` token numbers that are no special marks."""
        special = set(self._tokenizer.all_special_ids)
        found = [number for number in range(self.words) if number not in special][:count]
        if len(found) < count:
            raise ConfigError(
                f"The tokenizer of {self._source} has {len(found)} plain tokens and data="
                f"graded_facts needs {count}: take a smaller world or another model."
            )
        return found

    def text(self, tokens: Sequence[int]) -> str:
        """Token numbers -> text without special marks."""
        return self._tokenizer.decode(list(tokens), skip_special_tokens=True).strip()

    def _plain(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def _offline() -> bool:
    on = ("1", "ON", "YES", "TRUE")
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in on for name in names)


def _counted(folder: Path) -> list[Path]:
    """What decides a model: settings, tokenizer and weights."""
    return [path for pattern in ("*.json", "*.safetensors") for path in folder.glob(pattern)]


def _vocabulary(module: nn.Module) -> int:
    return int(module.get_input_embeddings().weight.shape[0])


def _complete(folder: Path, name: str) -> None:
    """A folder must hold a config, weights and a tokenizer; all that is missing is named."""
    missing = []
    if not (folder / "config.json").is_file():
        missing.append("config.json")
    elif not _json(folder / "config.json"):
        raise ConfigError(f"model.name={name}: {folder}/config.json is damaged, it is no JSON.")
    if not list(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if not any((folder / file).is_file() for file in _TOKENIZERS):
        missing.append(f"a tokenizer ({' or '.join(_TOKENIZERS)})")
    if missing:
        raise ConfigError(
            f"model.name={name}: {folder} holds no complete model, it lacks {', '.join(missing)}."
        )


def _json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False
