"""SFT and DPO steps on a GPU against trl: tokens per second and model FLOP utilisation.

The model has Qwen2's shape and random weights: what is measured is work, not learning. Useful
operations per token of a LoRA step are 4 (N + V d) + 6 L s d, with N weights in linear layers, V d
of the output layer, L layers and sequences of s tokens; computing layers again is not counted, and
a reference's log-probabilities are computed before the clock starts, here and in trl.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from torch import nn

from experiments.benchmarks.alignment import word_tokenizer
from fedalign.core.errors import ConfigError
from fedalign.core.preferences import Preferences, Sequences
from fedalign.models.forward import narrow, recomputing
from fedalign.models.low_rank import LowRank
from fedalign.objectives.dpo import Dpo
from fedalign.objectives.sft import Sft
from fedalign.training.flat import FlatModel
from fedalign.training.pair_terms import Batch, descend
from fedalign.training.reference import reference_logps
from fedalign.training.tuning import Tuning, adamw
from fedalign.workloads.preference_holdings import there

BETA, LR, PROMPT = 0.1, 5e-5, 8
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Shape:
    """Of a Qwen2 model with tied embeddings, its adapter and the batches; the default is
    Qwen2.5-0.5B's. rank: of LoRA on all linear layers. length: tokens per sequence, > 8. batch:
    sequences per step, even. chunk: of them per forward pass. precision: of the frozen weights and
    of products."""

    hidden: int = 896
    layers: int = 24
    heads: int = 14
    key_heads: int = 2
    mlp: int = 4864
    vocabulary: int = 151936
    rank: int = 16
    length: int = 1024
    batch: int = 16
    chunk: int = 16
    precision: str = "bfloat16"
    recompute: bool = False

    def __post_init__(self) -> None:
        if self.length <= PROMPT or self.batch < 2 or self.batch % 2:
            raise ConfigError(
                f"speed_gpu needs length > {PROMPT} and an even batch, got {self.length} and "
                f"{self.batch}."
            )

    @property
    def weights(self) -> int:
        """N + V d, that every token is multiplied with."""
        keys = self.hidden * self.key_heads // self.heads
        layer = 2 * self.hidden * (self.hidden + keys) + 3 * self.hidden * self.mlp
        return self.layers * layer + self.vocabulary * self.hidden

    @property
    def flops(self) -> float:
        """Useful operations per token of a LoRA step."""
        return 4.0 * self.weights + 6.0 * self.layers * self.length * self.hidden

    def build(self, device: torch.device) -> nn.Module:
        """Random weights, frozen."""
        import transformers

        config = transformers.Qwen2Config(
            hidden_size=self.hidden, num_hidden_layers=self.layers, intermediate_size=self.mlp,
            num_attention_heads=self.heads, num_key_value_heads=self.key_heads,
            vocab_size=self.vocabulary, max_position_embeddings=2 * self.length,
            tie_word_embeddings=True, pad_token_id=0, eos_token_id=1, bos_token_id=None,
        )  # fmt: skip
        dtype = getattr(torch, self.precision)
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(0)
            made = transformers.Qwen2ForCausalLM(config).to(dtype)
        return made.requires_grad_(False).eval()


def measure(
    shape: Shape, steps: int, repetitions: int, peak_tflops: float, device: str = "cuda"
) -> Sequence[Row]:
    """Rows for trl and for us, SFT and DPO. steps: per repetition, at least 3; the first one of each
    warms up. peak_tflops: of the card in this precision."""
    if steps < 3 or repetitions < 1 or peak_tflops <= 0:
        raise ConfigError(
            "speed_gpu needs steps >= 3, repetitions >= 1 and peak_tflops > 0, got "
            f"{steps}, {repetitions} and {peak_tflops}."
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "scenario=speed_gpu measures a GPU and torch sees none: run it on a GPU host, or take "
            "preset=small to see its table from a CPU."
        )
    if find_spec("trl") is None:
        raise ConfigError("scenario=speed_gpu compares with trl: pip install 'fedalign[llm]'.")
    there_ = torch.device(device)
    rows = []
    for name in ("sft", "dpo"):
        engines: Mapping[str, Callable[..., _Times]] = {"trl": _trl, "fedalign": _ours}
        found: dict[str, list[_Times]] = {engine: [] for engine in engines}
        for _ in range(repetitions):
            for engine, run in engines.items():
                found[engine].append(run(name, shape, steps, there_))
        made = [_row(name, e, times, shape, peak_tflops) for e, times in found.items()]
        rows += [{**row, "x trl": _ratio(row, made[0])} for row in made]
    return rows


@dataclass(frozen=True)
class _Times:
    """seconds: of a steady step. peak_gb: of GPU memory, NaN on a CPU."""

    seconds: float
    peak_gb: float


def _row(name: str, engine: str, times: Sequence[_Times], shape: Shape, peak: float) -> Row:
    seconds = median(t.seconds for t in times)
    speed = shape.batch * shape.length / seconds
    return {
        "table": "gpu",
        "objective": name,
        "engine": engine,
        "tokens/s": round(speed),
        "MFU %": round(100 * speed * shape.flops / (peak * 1e12), 2),
        "s per step": round(seconds, 4),
        "peak GB": round(max(t.peak_gb for t in times), 2),
    }


def _ratio(row: Row, theirs: Row) -> float:
    return round(theirs["s per step"] / row["s per step"], 2)


def _ours(name: str, shape: Shape, steps: int, device: torch.device) -> _Times:
    """A client's local steps as the alignment workload takes them."""
    base = narrow(shape.build(device), shape.precision, device)
    flat = FlatModel(LowRank(rank=shape.rank, alpha=2.0 * shape.rank).wrap(base).eval(), device)
    pairs = there(_pairs(shape, steps), device)
    objective, width = (Sft(), shape.batch) if name == "sft" else (Dpo(BETA), shape.batch // 2)
    reference = torch.zeros(len(pairs), 2, device=device)
    if name == "dpo":
        both = Sequences.concatenate([pairs.chosen, pairs.rejected])
        reference = reference_logps(flat.module, both, shape.chunk).view(2, -1).T.contiguous()
    clock = _Clock(device)

    def backward(step: int) -> float:
        clock.tick()
        rows = torch.arange(step * width, (step + 1) * width, device=device)
        batch = Batch(pairs.take(rows), reference[rows])
        with recomputing(flat.module, shape.recompute):
            return float(descend(flat.module, batch, objective, {}, shape.chunk).value)

    tuning = Tuning(lr=LR, batch_size=width, warmup_steps=0, chunk=shape.chunk)
    adamw(flat, flat.vector.clone(), steps, backward, lambda step: LR, tuning)
    clock.tick()
    return clock.times()


def _pairs(shape: Shape, steps: int) -> Preferences:
    """As many pairs as SFT needs, all of one length; random tokens that trl's tokenizer knows."""
    count, rng = steps * shape.batch, torch.Generator().manual_seed(0)
    tokens = torch.randint(2, _words(shape), (2, count, shape.length), generator=rng)
    tokens[1, :, :PROMPT] = tokens[0, :, :PROMPT]
    tokens[:, :, -1] = 1  # the end mark
    starts, ends = torch.full((count,), PROMPT), torch.full((count,), shape.length)
    return Preferences(
        Sequences(tokens[0], starts, ends), Sequences(tokens[1], starts, ends),
        torch.zeros(count, 2), torch.ones(count).long(), torch.zeros(count).long(),
        torch.zeros(count).bool(),
    )  # fmt: skip


def _words(shape: Shape) -> int:
    return min(shape.vocabulary, 1000)


class _Clock:
    """Seconds of a step without the first one; the device is waited for."""

    def __init__(self, device: torch.device):
        self._cuda, self._marks = device.type == "cuda", []
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()

    def tick(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()
        self._marks.append(perf_counter())

    def times(self) -> _Times:
        peak = torch.cuda.max_memory_allocated() / 1e9 if self._cuda else float("nan")
        marks = self._marks[1:]
        return _Times((marks[-1] - marks[0]) / (len(marks) - 1), peak)


def _trl(name: str, shape: Shape, steps: int, device: torch.device) -> _Times:
    """The same model, adapter, sequences and batch size through trl's trainer."""
    import peft
    from datasets import Dataset
    from transformers import TrainerCallback

    clock = _Clock(device)

    class Ticks(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            clock.tick()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    words = ["<pad>", "<eos>", *(f"w{i}" for i in range(2, _words(shape)))]
    adapter = peft.LoraConfig(
        r=shape.rank, lora_alpha=2 * shape.rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    data = Dataset.from_dict(dict(_text(_pairs(shape, steps), words, name)))
    with TemporaryDirectory() as folder:
        trainer = _trainer(name, shape, steps, device, folder)
        made = trainer(
            model=shape.build(device), processing_class=word_tokenizer(words), train_dataset=data,
            peft_config=adapter, callbacks=[Ticks()],
        )  # fmt: skip
        made.train()
    return clock.times()


def _text(pairs: Preferences, words: Sequence[str], name: str) -> Iterator[tuple[str, list[str]]]:
    """Columns of words; trl adds the end mark itself."""

    def said(rows: Sequence[Sequence[int]]) -> list[str]:
        return [" ".join(words[t] for t in row) for row in rows]

    yield "prompt", said(pairs.chosen.prompts())
    sides = {"completion": pairs.chosen}
    if name == "dpo":
        sides = {"chosen": pairs.chosen, "rejected": pairs.rejected}
    for column, side in sides.items():
        yield column, [f" {text}" for text in said([a[:-1] for a in side.completions()])]


def _trainer(
    name: str, shape: Shape, steps: int, device: torch.device, folder: str
) -> Callable[..., Any]:
    """trl's trainer of a kind with settings that do the same work."""
    from functools import partial

    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    pairs = shape.batch if name == "sft" else shape.batch // 2
    common = {
        "output_dir": folder, "report_to": "none", "save_strategy": "no", "max_steps": steps,
        "use_cpu": device.type == "cpu", "bf16": shape.precision == "bfloat16",
        "gradient_checkpointing": shape.recompute, "max_length": None, "learning_rate": LR,
        "per_device_train_batch_size": pairs, "disable_tqdm": True, "logging_steps": 10_000,
        "dataloader_pin_memory": device.type == "cuda",
    }  # fmt: skip
    if name == "sft":
        return partial(SFTTrainer, args=SFTConfig(**common, completion_only_loss=True))
    more = {"beta": BETA, "precompute_ref_log_probs": True, "disable_dropout": True}
    reference = {"per_device_eval_batch_size": pairs}
    return partial(DPOTrainer, args=DPOConfig(**common, **more, **reference))
