"""Local AdamW on one flat vector of adapter weights.

Paper: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, Algorithm 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import cos, pi
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fedalign.core.contracts import Gradient, Memory
from fedalign.core.errors import ConfigError
from fedalign.training.flat import FlatModel
from fedalign.training.sequences import Packing


@dataclass(frozen=True)
class Tuning:
    """How a client tunes its adapter.

    lr: > 0, reached after `warmup_steps` (>= 0) steps counted over all rounds. lr_min: if given, lr
    falls to it by half a cosine over the run's rounds, constant inside a round. batch_size: pairs
    or prompts per step, >= 1. clip: largest norm of a gradient, > 0. weight_decay: >= 0.
    micro_batch: pairs that are kept for the backward pass at once, null: all of a step; exact for
    every objective, at the price of one more forward pass. chunk: sequences of similar length per
    forward pass, >= 1. packing: tokens per row where a client's pairs are packed without padding
    instead, >= 1 (the choice on a GPU), null: not. recompute: keep only each layer's input for the
    backward pass and compute the rest again. moments: AdamW's start anew in every round, or are
    kept from a client's last one to its next; they never leave it. reference: what losses on pairs
    compare the policy with, sft, the model that the run began with, or round_start, the model that
    the client received this round.
    """

    lr: float = 0.0005
    batch_size: int = 32
    warmup_steps: int = 10
    lr_min: float | None = None
    clip: float = 1.0
    weight_decay: float = 0.0
    micro_batch: int | None = None
    chunk: int = 16
    packing: int | None = None
    recompute: bool = False
    moments: Literal["anew", "kept"] = "anew"
    reference: Literal["sft", "round_start"] = "sft"

    def __post_init__(self) -> None:
        for name, fine, range_ in (
            ("lr", self.lr > 0, "above 0"),
            ("batch_size", self.batch_size >= 1, "1 or more"),
            ("warmup_steps", self.warmup_steps >= 0, "0 or more"),
            ("lr_min", self.lr_min is None or 0 <= self.lr_min <= self.lr, "between 0 and lr"),
            ("clip", self.clip > 0, "above 0"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("micro_batch", self.micro_batch is None or self.micro_batch >= 1, "1 or more"),
            ("chunk", self.chunk >= 1, "1 or more"),
            ("packing", self.packing is None or self.packing >= 1, "1 or more, or null"),
            ("moments", self.moments in ("anew", "kept"), "anew or kept"),
            ("reference", self.reference in ("sft", "round_start"), "sft or round_start"),
        ):
            if not fine:
                raise ConfigError(f"workload.{name} must be {range_}, got {getattr(self, name)}.")

    @property
    def passes(self) -> int | Packing:
        """How sequences go through the model, see `logps`."""
        return self.chunk if self.packing is None else Packing(self.packing)

    def scaled(self, factor: float) -> Tuning:
        """The same with learning rates multiplied."""
        low = None if self.lr_min is None else self.lr_min * factor
        return replace(self, lr=self.lr * factor, lr_min=low)

    def rate(self, step: int, round: int, rounds: int) -> float:
        """The learning rate of a global step, counted from 0, in a round counted from 1."""
        peak = self.lr
        if self.lr_min is not None and rounds > 1:
            share = min(round - 1, rounds - 1) / (rounds - 1)
            peak = self.lr_min + 0.5 * (self.lr - self.lr_min) * (1 + cos(pi * share))
        return peak * min(1.0, (step + 1) / (self.warmup_steps + 1))


class FailedStep(ArithmeticError):
    """A local step that cannot be taken: it ends its client's round, not the run."""


class NonFiniteLoss(FailedStep):
    """A loss that is no number, before its gradient could reach the weights."""


class OutOfMemory(FailedStep):
    """A batch that does not fit."""


class Trained(NamedTuple):
    """vector: (d,), a copy. loss: the mean over the steps. moments: {"first", "second", (d,) each,
    "steps"}."""

    vector: Tensor
    loss: float
    moments: Memory


def adamw(
    flat: FlatModel,
    start: Tensor,
    steps: int,
    backward: Callable[[int], float],
    rate: Callable[[int], float],
    tuning: Tuning,
    correct: Gradient | None = None,
    moments: Memory | None = None,
) -> Trained:
    """`steps` steps from `start` (d,), with moments of earlier ones or none. backward(step): fill
    flat.gradient, return the loss. NonFiniteLoss and OutOfMemory name the step.
    """
    flat.load(start)
    moments = moments or {"first": torch.zeros_like(start), "second": torch.zeros_like(start)}
    first, second = (moments[name].to(start, copy=True) for name in ("first", "second"))
    taken, total = int(moments.get("steps", 0)), 0.0
    for step in range(steps):
        flat.gradient.zero_()
        try:
            loss = backward(step)
        except (MemoryError, RuntimeError) as error:
            if not _of_memory(error):
                raise
            raise _out_of_memory(error, f"local step {step + 1} of {steps}", tuning) from error
        if not loss - loss == 0:
            raise NonFiniteLoss(f"the loss of local step {step + 1} of {steps} is {loss}")
        total += loss
        gradient = flat.gradient
        if correct is not None:
            gradient = correct(gradient[None], flat.vector[None], start[None])[0]
        norm = float(gradient.norm())
        gradient = gradient * min(1.0, tuning.clip / (norm + 1e-12))
        first.mul_(0.9).add_(gradient, alpha=0.1)
        second.mul_(0.98).addcmul_(gradient, gradient, value=0.02)
        lr, power = rate(step), taken + step + 1
        if tuning.weight_decay:
            flat.vector.mul_(1 - lr * tuning.weight_decay)
        scale = (second / (1 - 0.98**power)).sqrt_().add_(1e-8)
        flat.vector.addcdiv_(first, scale, value=-lr / (1 - 0.9**power))
    after = {"first": first, "second": second, "steps": taken + steps}
    return Trained(flat.vector.clone(), total / max(steps, 1), after)


def _of_memory(error: Exception) -> bool:
    """On a GPU torch has a class for it; on a CPU its allocator raises a RuntimeError."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "DefaultCPUAllocator" in str(error)


def _out_of_memory(error: Exception, where: str, tuning: Tuning) -> OutOfMemory:
    """Which batch did not fit, and what would help."""
    told = str(error).splitlines()[0] if str(error) else type(error).__name__
    small = max((tuning.micro_batch or tuning.batch_size) // 2, 1)
    return OutOfMemory(
        f"memory ran out in {where}, a batch of {tuning.batch_size} ({told}): take "
        f"workload.micro_batch={small}, workload.recompute=true or a smaller workload.batch_size"
    )
