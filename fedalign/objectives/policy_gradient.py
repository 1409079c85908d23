"""Advantages and KL estimates that online objectives share.

Papers: Ahmadian et al., "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from
Human Feedback in LLMs", ACL 2024 (leave-one-out); Shao et al., "DeepSeekMath", 2024, Eq. 3 (group
advantages); Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage
Estimation", ICLR 2016, Eq. 16; Schulman, "Approximating KL Divergence", 2020.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fedalign.core.errors import ConfigError

Estimator = Literal["k1", "abs", "k2", "k3"]


def kl(ratios: Tensor, estimator: Estimator = "k1") -> Tensor:
    """Estimates from log pi(y) - log ref(y) of samples y ~ pi, elementwise."""
    if estimator == "k1":
        return ratios
    if estimator == "abs":
        return ratios.abs()
    if estimator == "k2":
        return ratios.square() / 2
    if estimator == "k3":
        return torch.expm1(-ratios) + ratios
    raise ConfigError(f"A KL estimator is k1, abs, k2 or k3, got {estimator!r}.")


def leave_one_out(rewards: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Baselines and advantages of groups of k answers to one prompt.

    rewards: (P, k), k >= 2. valid: (P, k) bool; invalid answers are left out of every baseline
    and have advantage 0, as has everybody in a group of fewer than two valid answers.
    """
    if rewards.shape[1] < 2:
        raise ConfigError(
            f"Leave-one-out needs at least 2 answers per prompt, got {rewards.shape[1]}."
        )
    valid = torch.ones_like(rewards, dtype=torch.bool) if valid is None else valid
    usable = valid.to(rewards.dtype)
    count = usable.sum(dim=1, keepdim=True)
    total = (rewards * usable).sum(dim=1, keepdim=True)
    others = count - usable
    baseline = (total - rewards * usable) / others.clamp(min=1)
    # an invalid answer's own baseline is printed with n_valid - 1 and never used
    baseline = torch.where(valid, baseline, total / (count - 1).clamp(min=1))
    baseline = torch.where(count >= 2, baseline, rewards)
    return baseline, torch.where(valid, rewards - baseline, torch.zeros_like(rewards))


def group_advantages(rewards: Tensor) -> Tensor:
    """(P, k) -> (R - mean) / (std + 1e-4), std over k - 1."""
    if rewards.shape[1] < 2:
        raise ConfigError(
            f"Group advantages need at least 2 answers per prompt, got {rewards.shape[1]}."
        )
    middle = rewards.mean(dim=1, keepdim=True)
    return (rewards - middle) / (rewards.std(dim=1, keepdim=True) + 1e-4)


def generalised_advantages(
    rewards: Tensor, values: Tensor, discount: float = 1.0, decay: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Per token, backwards; the value after the last token is 0. rewards, values: (B, T) ->
    advantages (B, T), returns (B, T)."""
    advantages, ahead = torch.zeros_like(rewards), torch.zeros_like(rewards[:, 0])
    following = torch.zeros_like(ahead)
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + discount * following - values[:, t]
        ahead = delta + discount * decay * ahead
        advantages[:, t], following = ahead, values[:, t]
    return advantages, advantages + values


def whiten(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """(v - mean) / sqrt(var + 1e-8) over masked entries, population variance."""
    mask = torch.ones_like(values) if mask is None else mask.to(values.dtype)
    count = mask.sum().clamp(min=1)
    middle = (values * mask).sum() / count
    spread = ((values - middle).square() * mask).sum() / count
    return (values - middle) / (spread + 1e-8).sqrt()
