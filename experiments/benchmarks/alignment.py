"""Federated DPO against trl's DPOTrainer: same model, adapter, pairs and batch size.

CPU seconds of one thread, repetitions interleaved, medians. steady: tokens per second of the
steps alone, tokens of padding not counted. first round: steps with all set-up, as a client meets
it once; later round: the same client again, its reference log-probabilities kept.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import torch
from torch import nn

from fedalign.core.contracts import ClientTask, Work
from fedalign.core.errors import ConfigError
from fedalign.core.preferences import Preferences
from fedalign.core.seeds import Seeds
from fedalign.data.annotator import Annotator
from fedalign.data.graded_facts import World
from fedalign.data.graded_preferences import GradedFacts
from fedalign.data.partition.iid import Iid
from fedalign.models.low_rank import LowRank
from fedalign.models.tiny_lm import TinyLm
from fedalign.objectives.dpo import Dpo
from fedalign.training.cache import Cache
from fedalign.training.tuning import Tuning
from fedalign.workloads.alignment import Alignment, Task
from fedalign.workloads.preference_holdings import Owners

BETA, LR, BATCH, CLIENTS = 0.5, 5e-4, 32, 5
Row = Mapping[str, Any]


def measure(steps: int, repetitions: int) -> Sequence[Row]:
    """steps: of a client-round, at least 3. Rows for trl and for us, with ratios."""
    if steps < 3:
        raise ConfigError(f"The speed of a step needs steps >= 3, got {steps}.")
    if find_spec("trl") is None:
        raise ConfigError("scenario=speed_dpo compares with trl: pip install 'fedalign[llm]'.")
    torch.set_num_threads(1)
    for name in ("HF_HUB_OFFLINE", "TQDM_DISABLE", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    base = _workload(Cache())
    pairs = base._held[0, False]
    tokens = BATCH * float((pairs.chosen.ends + pairs.rejected.ends).double().mean())
    found: dict[str, list[Mapping[str, float]]] = {"trl DPOTrainer": [], "fedalign": []}
    trl = _Trl(pairs)
    for _ in range(repetitions):
        found["trl DPOTrainer"].append(trl.round(steps))
        with TemporaryDirectory() as folder:
            found["fedalign"].append(_ours(base, pairs, steps, folder))
    rows = [_row(name, times, tokens) for name, times in found.items()]
    theirs = rows[0]
    return [
        {**row, **{f"x trl, {name}": _ratio(row, theirs, name) for name in _COLUMNS}}
        for row in rows
    ]


_COLUMNS = ("steady tokens/s", "first round s", "later round s")


def _row(name: str, times: Sequence[Mapping[str, float]], tokens: float) -> Row:
    middle = {key: median(t[key] for t in times) for key in times[0]}
    return {
        "table": "dpo",
        "engine": name,
        "steady tokens/s": round(tokens / middle["step"]),
        "first round s": round(middle["first"], 3),
        "later round s": round(middle["later"], 3),
    }


def _ratio(row: Row, theirs: Row, name: str) -> float:
    """How many times as fast."""
    faster = row[name] / theirs[name]
    return round(faster if "/s" in name else 1 / faster, 2)


def _workload(cache: Cache) -> Alignment:
    data = GradedFacts(World(), Annotator())
    tuning = Tuning(lr=LR, batch_size=BATCH, warmup_steps=0)
    task = Task(data, TinyLm(), LowRank(), Dpo(BETA), tuning, 2, cache)
    return Alignment(task, Owners(Iid(), CLIENTS), Seeds(0))


def _ours(workload: Alignment, pairs: Preferences, steps: int, folder: str) -> dict[str, float]:
    """A client's first round with an empty cache, then its second."""
    workload._known.clear()
    kept = workload._task
    workload._task = replace(kept, cache=Cache(folder))
    seconds = []
    for round in (1, 2):
        begin = process_time()
        task = ClientTask("train", 0, round, workload.initial(), Work(steps=steps))
        workload.train([task], [{}])
        seconds.append(process_time() - begin)
    workload._task = kept
    return {"first": seconds[0], "later": seconds[1], "step": seconds[1] / steps}


class _Trl:
    """A trainer per client and round, as a federation on top of trl would have it."""

    def __init__(self, pairs: Preferences):
        from datasets import Dataset

        words = pairs.words
        columns = {
            "prompt": pairs.chosen.prompts(),
            "chosen": pairs.chosen.completions(),
            "rejected": pairs.rejected.completions(),
        }
        text = {
            name: [" ".join(words[t] for t in row) for row in rows]
            for name, rows in columns.items()
        }
        for name in ("chosen", "rejected"):
            text[name] = [f" {answer}" for answer in text[name]]
        self._data, self._words = Dataset.from_dict(text), words

    def round(self, steps: int) -> dict[str, float]:
        """Set-up and steps; a later round has to set everything up again."""
        from transformers import TrainerCallback

        marks: list[float] = []

        class Marks(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                marks.append(process_time())

        model = _base()
        begin = process_time()
        with TemporaryDirectory() as folder:
            self._trainer(model, folder, steps, Marks()).train()
        total = process_time() - begin
        step = (marks[-1] - marks[0]) / (len(marks) - 1)
        return {"first": total, "later": total, "step": step}

    def _trainer(self, model: nn.Module, folder: str, steps: int, marks: Any) -> Any:
        import peft
        from trl import DPOConfig, DPOTrainer

        settings = DPOConfig(
            output_dir=folder, report_to="none", save_strategy="no", use_cpu=True, bf16=False,
            gradient_checkpointing=False, max_length=None, beta=BETA, learning_rate=LR,
            max_steps=steps, per_device_train_batch_size=BATCH, per_device_eval_batch_size=BATCH,
            disable_tqdm=True, dataloader_pin_memory=False, precompute_ref_log_probs=True,
            logging_steps=1000, disable_dropout=True,
        )  # fmt: skip
        adapter = peft.LoraConfig(
            r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        return DPOTrainer(
            model=model, args=settings, processing_class=word_tokenizer(self._words),
            train_dataset=self._data, peft_config=adapter, callbacks=[marks],
        )  # fmt: skip


def _base() -> nn.Module:
    """The taught model, fresh from the cache."""
    from fedalign.training.teach import taught

    return taught(TinyLm(), GradedFacts(World(), Annotator()), Cache())[0]


def word_tokenizer(words: Sequence[str]) -> Any:
    """Words between spaces; `<pad>` and `<eos>` are among them."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    model = WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<pad>"
    )
