"""Attribute poisoning: raters report the opposite of what they think, or anything at all.

Papers: Wang et al., "HelpSteer2: Open-source dataset for training top-performing reward models",
NeurIPS 2024 (the ratings that are attacked); Wang et al., "RLHFPoison: Reward Poisoning Attack for
Reinforcement Learning with Human Feedback in Large Language Models", ACL 2024 (inverted feedback).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from attacks import _checks
from attacks._preferences import pairs, share
from fedalign.core.preferences import HONEST, INVERTED, UNIFORM, Preferences


@dataclass(frozen=True)
class AttributePoisoning:
    """The controlled clients' ratings of both answers lie; their preferences stay as they are.

    mode: invert, 4 - score of every attribute; uniform, a score drawn evenly from 0 .. 4, the
    control that only adds noise. rate: share of the pairs, 0 < rate <= 1.
    """

    mode: Literal["invert", "uniform"] = "invert"
    rate: float = 1.0
    preferences: ClassVar[bool] = True
    ratings: ClassVar[bool] = True

    def __post_init__(self):
        _checks.one_of(self, "mode", self.mode, ("invert", "uniform"))
        _checks.in_range(self, "rate", self.rate, 0, 1, open_low=True)

    def poison(self, dataset: Preferences, rng: np.random.Generator, member: int) -> Preferences:
        """The pairs, a share of them marked as dishonestly rated; each member draws its own."""
        dataset = pairs(self, dataset)
        rows = share(len(dataset), self.rate, rng)
        lie = INVERTED if self.mode == "invert" else UNIFORM
        return replace(dataset, rated=torch.where(rows, lie, HONEST))

    def triggered(self, dataset: Any) -> None:
        """Nothing is hidden behind a trigger."""
