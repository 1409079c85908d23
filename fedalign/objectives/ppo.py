"""PPO: clipped policy and value steps on token rewards with a KL penalty.

Papers: Schulman et al., "Proximal Policy Optimization Algorithms", 2017, Eqs. 7 and 9; Ouyang et
al., "Training language models to follow instructions with human feedback", NeurIPS 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedalign.core.errors import ConfigError
from fedalign.objectives.climber import Climber
from fedalign.objectives.policy_gradient import generalised_advantages, kl, whiten
from fedalign.objectives.terms import Loss, positive, within


@dataclass(frozen=True)
class Ppo(Climber):
    """kl_weight: >= 0, on every token. estimator: of the KL. clip: epsilon in (0, 1) of the ratio;
    value_clip: > 0. decay: lambda of advantages, discount: gamma, both in [0, 1].

    answers: >= 1 per prompt. passes: optimizer steps (>= 1) on one set of answers. critic_weight:
    > 0, of the value loss. entropy: >= 0, of the bonus for it. standardise: rewards are measured in
    deviations of what the client, or its groups together, thinks of the base model's answers that
    it holds, which the value clip is made for. What is climbed: see Climber.
    """

    kl_weight: float = 0.01
    estimator: Literal["k1", "abs", "k2", "k3"] = "k1"
    clip: float = 0.2
    value_clip: float = 0.2
    decay: float = 0.95
    discount: float = 1.0
    answers: int = 4
    passes: int = 2
    critic_weight: float = 1.0
    entropy: float = 0.0
    standardise: bool = True
    reference: ClassVar[str] = "sft"
    mismatched: ClassVar[bool] = False
    neutral: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, clip=self.clip, value_clip=self.value_clip, critic_weight=self.critic_weight)
        within(self, 0.0, 1.0, True, clip=self.clip, decay=self.decay, discount=self.discount)
        if self.kl_weight < 0 or self.entropy < 0:
            raise ConfigError(
                "Ppo.kl_weight and entropy must be 0 or more, got "
                f"{self.kl_weight} and {self.entropy}."
            )
        if self.estimator not in ("k1", "abs", "k2", "k3"):
            raise ConfigError(f"Ppo.estimator must be k1, abs, k2 or k3, got {self.estimator!r}.")
        if self.answers < 1 or self.passes < 1:
            raise ConfigError(
                f"Ppo.answers and passes must be 1 or more, got {self.answers} and {self.passes}."
            )

    def token_rewards(self, ratios: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
        """Minus the KL on every completion token, plus the reward of the answer on the last.
        ratios: (B, T), log pi_old - log ref. rewards: (B,). mask: (B, T). Returns (B, T)."""
        found = -self.kl_weight * kl(ratios, self.estimator) * mask
        places = torch.arange(mask.shape[1], device=mask.device)
        last = (mask * places).argmax(dim=1)
        return found.scatter_add(1, last[:, None], rewards[:, None].to(found.dtype))

    def advantages(self, rewards: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Whitened advantages and returns, both (B, T)."""
        found, returns = generalised_advantages(
            rewards * mask, values * mask, self.discount, self.decay
        )
        return whiten(found, mask) * mask, returns

    def actor(
        self, logps: Tensor, old: Tensor, advantages: Tensor, mask: Tensor | None = None
    ) -> Loss:
        """logps, old, advantages, mask: (B, T). Answers without end mark are masked by the caller."""
        ratio = (logps - old).exp()
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        items = torch.maximum(-advantages * ratio, -advantages * clipped)
        outside = ((ratio - 1).abs() > self.clip).to(items.dtype)
        metrics = {"clip_fraction": float(_mean(outside, mask))}
        value = _mean(items, mask)
        if self.entropy:  # E[log pi grad log pi] over the policy's own samples is -grad H
            value = value + self.entropy * _mean(logps * logps.detach(), mask)
        return Loss(value, items, metrics)

    def critic(
        self, values: Tensor, old: Tensor, returns: Tensor, mask: Tensor | None = None
    ) -> Loss:
        """values, old, returns, mask: (B, T); half the larger of plain and clipped error."""
        near = old + (values - old).clamp(-self.value_clip, self.value_clip)
        items = 0.5 * torch.maximum((values - returns).square(), (near - returns).square())
        return Loss(_mean(items, mask), items)


def _mean(items: Tensor, mask: Tensor | None) -> Tensor:
    return items.mean() if mask is None else (items * mask).sum() / mask.sum().clamp(min=1)
