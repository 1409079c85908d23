"""What preference objectives see and what they answer.

Shapes: B pairs of an optimizer batch. Log-probabilities are sums over the tokens of a completion,
its end mark included, in float32 or wider; gradients flow through the policy's alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from fedalign.core.errors import ConfigError

Memory = Mapping[str, Any]


@dataclass(frozen=True)
class PairTerms:
    """chosen, rejected: (B,) log-probabilities under the policy; *_reference: under the reference.
    *_tokens: (B,) lengths. *_scores: (B,) what an annotator or a reward model thinks each answer is
    worth, where known. mismatched: (2 B,) policy minus reference log-probability of every
    completion (chosen, then rejected) after the prompt of its neighbour, for KTO."""

    chosen: Tensor
    rejected: Tensor
    chosen_reference: Tensor
    rejected_reference: Tensor
    chosen_tokens: Tensor | None = None
    rejected_tokens: Tensor | None = None
    chosen_scores: Tensor | None = None
    rejected_scores: Tensor | None = None
    mismatched: Tensor | None = None

    @property
    def gap(self) -> Tensor:
        """(B,), Delta = (log pi_w - log ref_w) - (log pi_l - log ref_l)."""
        return (self.chosen - self.chosen_reference) - (self.rejected - self.rejected_reference)


@dataclass(frozen=True)
class Loss:
    """value: scalar to descend. items: (B,), one per pair or answer, before the reduction.
    metrics: name -> number. memory: what the objective wants to see at its next batch."""

    value: Tensor
    items: Tensor
    metrics: Mapping[str, float] = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)


class PairObjective(Protocol):
    """An alignment loss on pairs. Frozen, pure; memory is passed and returned.

    reference: which model the policy is compared with: none; sft, the one every run starts from;
    iterate, the global model at the start of the present iteration of self-play. mismatched:
    whether it needs `PairTerms.mismatched`. neutral: its value per item where policy and reference
    agree, None where that depends on the data.
    """

    reference: ClassVar[Literal["none", "sft", "iterate"]] = "sft"
    mismatched: ClassVar[bool] = False

    @property
    def neutral(self) -> float | None: ...

    def __call__(self, terms: PairTerms, memory: Memory = {}) -> Loss: ...  # noqa: B006


def mean(items: Tensor, terms: PairTerms, beta: float, memory: Memory | None = None) -> Loss:
    """The plain mean of the items, with the usual metrics of implicit rewards."""
    return Loss(items.mean(), items, implicit(terms, beta), memory or {})


@torch.no_grad()
def implicit(terms: PairTerms, beta: float) -> dict[str, float]:
    """reward_accuracy (ties count one half), reward_margin, and whether likelihoods fall together."""
    gap = terms.gap
    right = (gap > 0).double() + 0.5 * (gap == 0)
    return {
        "reward_accuracy": float(right.mean()),
        "reward_margin": float(beta * gap.mean()),
        "chosen_logp": float(terms.chosen.mean()),
        "rejected_logp": float(terms.rejected.mean()),
    }


class RewardObjective:
    """What reward models are trained by. learns_ratings: whether it needs them. jointly: whether its
    model reads both answers of a pair at once, and so scores none alone."""

    pool: Literal["last", "mean"]
    learns_ratings: ClassVar[bool] = False
    jointly: ClassVar[bool] = False


def pooled(owner: object, pool: str) -> None:
    """Refuse what a reward head cannot read."""
    if pool not in ("last", "mean"):
        raise ConfigError(f"{type(owner).__name__}.pool must be last or mean, got {pool!r}.")


def positive(owner: object, **values: float) -> None:
    """Refuse numbers that are not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ConfigError(f"{type(owner).__name__}.{name} must be above 0, got {value}.")


def within(owner: object, low: float, high: float, closed: bool = False, **values: float) -> None:
    """Refuse numbers outside [low, high), or [low, high] where `closed`."""
    for name, value in values.items():
        if not (low <= value < high or (closed and value == high)):
            right = "]" if closed else ")"
            raise ConfigError(
                f"{type(owner).__name__}.{name} must lie in [{low:g}, {high:g}{right}, got {value}."
            )


def scores(owner: object, terms: PairTerms) -> tuple[Tensor, Tensor]:
    """The scores of both answers; ConfigError where the data has none."""
    if terms.chosen_scores is None or terms.rejected_scores is None:
        raise ConfigError(
            f"{type(owner).__name__} needs a score of both answers and this data has none: rate the "
            "pairs first, or take objective=dpo."
        )
    return terms.chosen_scores, terms.rejected_scores
