"""Group reward: what answers are worth to several groups, combined into one reward by the server.

Paper: Srewa, Zhao and Elmalaki, "A Systematic Evaluation of Preference Aggregation in Federated
RLHF for Pluralistic Alignment of LLMs", arXiv 2512.08786, 2025 (min, max, average, adaptive).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fedalign.core.errors import ConfigError

Rule = Literal["mean", "min", "max", "adaptive"]


def group_reward(rewards: Tensor, rule: Rule, temperature: float = 1.0) -> Tensor:
    """rewards: (G, N) of G >= 1 groups for N >= 1 answers, each group's counted from where its base
    model stands. temperature: > 0, of adaptive alone. Returns (N,). ConfigError names a wrong rule.

    mean, min and max go answer by answer. adaptive is sum_g a_g r_g with
    a = softmax(-mean reward of g over the N answers / temperature): whoever gains least weighs most.
    Towards infinity that is the mean, towards 0 the reward of the worst-off group.
    """
    if rule == "mean":
        return rewards.mean(dim=0)
    if rule == "min":
        return rewards.amin(dim=0)
    if rule == "max":
        return rewards.amax(dim=0)
    if rule == "adaptive":
        # The paper weighs by a group's record so far; ours remembers nothing: the batch at hand says
        # who is badly off, and no order of clients or steps can change a digest.
        weights = torch.softmax(-rewards.mean(dim=1) / temperature, dim=0)
        return (weights[:, None] * rewards).sum(dim=0)
    raise ConfigError(f"Groups are combined by mean, min, max or adaptive, got {rule!r}.")
