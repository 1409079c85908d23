"""Climber: whose reward an online objective climbs, a client's, a reward model's or its groups'.

Papers: Ouyang et al., "Training language models to follow instructions with human feedback",
NeurIPS 2022, Section 3.5 (a learned reward); Srewa et al., arXiv 2512.08786, 2025 (groups); Fan et
al., "FedRLHF", AAMAS 2025 (every client its own: a shared reward and a term of its own).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fedalign.core.errors import ConfigError
from fedalign.objectives.group_reward import group_reward
from fedalign.objectives.terms import positive


@dataclass(frozen=True, kw_only=True)
class Climber:
    """What Rloo, Ppo and RejectionSampling share.

    reward_model: folder of a finished run of a reward objective, which is climbed instead of the
    clients' values. groups: own, each client climbs its own values; mean, min, max or adaptive: all
    groups of annotators score every answer, and all clients climb what these scores together are.
    group_temperature: > 0, of adaptive: large is the mean, near 0 the worst-off group alone.
    """

    reward_model: str | None = None
    groups: Literal["own", "mean", "min", "max", "adaptive"] = "own"
    group_temperature: float = 1.0

    def __post_init__(self) -> None:
        kind = type(self).__name__
        if self.groups not in ("own", "mean", "min", "max", "adaptive"):
            raise ConfigError(
                f"{kind}.groups must be own, mean, min, max or adaptive, got {self.groups!r}."
            )
        positive(self, group_temperature=self.group_temperature)
        if self.grouped and self.reward_model is not None:
            raise ConfigError(
                f"{kind}.groups={self.groups} combines the values of groups of annotators and a "
                "learned reward_model has no groups: take groups=own, or reward_model=null."
            )

    @property
    def grouped(self) -> bool:
        """Whether groups score answers together."""
        return self.groups != "own"

    def together(self, rewards: Tensor) -> Tensor:
        """rewards: (G, N), what each group gains by N answers. Returns (N,)."""
        return group_reward(rewards, self.groups, self.group_temperature)
