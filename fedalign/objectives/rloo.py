"""RLOO: REINFORCE whose baseline is the mean reward of the other answers to the same prompt.

Paper: Ahmadian et al., "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from
Human Feedback in LLMs", ACL 2024, Eq. 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from fedalign.core.errors import ConfigError
from fedalign.objectives.climber import Climber
from fedalign.objectives.policy_gradient import group_advantages, kl, leave_one_out
from fedalign.objectives.terms import Loss


@dataclass(frozen=True)
class Rloo(Climber):
    """- log pi(y) A(y), A from rewards minus kl_weight times a KL estimate, both detached.

    kl_weight: >= 0. estimator: k1 (the only one with the KL-regularised optimum), abs, k2, k3.
    baseline: leave_one_out, or group, normalised by the group's deviation (GRPO). answers: k >= 2
    per prompt. What is climbed: see Climber.
    """

    kl_weight: float = 0.05
    estimator: Literal["k1", "abs", "k2", "k3"] = "k1"
    baseline: Literal["leave_one_out", "group"] = "leave_one_out"
    answers: int = 4
    reference: ClassVar[str] = "sft"
    mismatched: ClassVar[bool] = False
    neutral: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kl_weight < 0:
            raise ConfigError(f"Rloo.kl_weight must be 0 or more, got {self.kl_weight}.")
        if self.estimator not in ("k1", "abs", "k2", "k3"):
            raise ConfigError(f"Rloo.estimator must be k1, abs, k2 or k3, got {self.estimator!r}.")
        if self.answers < 2:
            raise ConfigError(f"Rloo.answers must be 2 or more, got {self.answers}.")
        if self.baseline not in ("leave_one_out", "group"):
            raise ConfigError(
                f"Rloo.baseline must be leave_one_out or group, got {self.baseline!r}."
            )

    def __call__(
        self, logps: Tensor, reference: Tensor, rewards: Tensor, valid: Tensor | None = None
    ) -> Loss:
        """logps: (P, k), log pi(y|x) of k >= 2 answers to P prompts, with gradient. reference:
        (P, k). rewards: (P, k). valid: (P, k) bool. Items: (P, k)."""
        ratios = logps.detach() - reference
        total = rewards - self.kl_weight * kl(ratios, self.estimator)
        if self.baseline == "group":
            advantages = group_advantages(total)
        else:
            advantages = leave_one_out(total, valid)[1]
        items = -logps * advantages
        metrics = {"reward": float(rewards.mean()), "kl_samples": float(ratios.mean())}
        return Loss(items.mean(), items, metrics)
