"""Bradley-Terry reward models: plain, with a margin, or scaled by the strength of a preference.

Papers: Bradley and Terry, "Rank Analysis of Incomplete Block Designs", Biometrika 1952; Touvron et
al., "Llama 2: Open Foundation and Fine-Tuned Chat Models", 2023, Eq. 2 (margin); Wang et al.,
"HelpSteer2-Preference: Complementing Ratings with Preferences", 2024, Eq. 3 (scaled).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from fedalign.core.errors import ConfigError
from fedalign.objectives.terms import Loss, RewardObjective, pooled


@dataclass(frozen=True)
class RewardBradleyTerry(RewardObjective):
    """form: plain, -log sigma(r_w - r_l); margin, -log sigma(r_w - r_l - m); scaled,
    -m log sigma(r_w - r_l), a plain mean over pairs. m: strength of the preference, in 1 .. 3.
    centering: c >= 0 adds c mean (r_w + r_l)^2, which fixes the free constant. pool: what the head
    reads, last, the state at the answer's last token, or mean, over its tokens."""

    form: Literal["plain", "margin", "scaled"] = "plain"
    centering: float = 0.0
    pool: Literal["last", "mean"] = "last"

    def __post_init__(self) -> None:
        if self.form not in ("plain", "margin", "scaled"):
            raise ConfigError(
                f"RewardBradleyTerry.form must be plain, margin or scaled, got {self.form!r}."
            )
        pooled(self, self.pool)
        if self.centering < 0:
            raise ConfigError(
                f"RewardBradleyTerry.centering must be 0 or more, got {self.centering}."
            )

    def __call__(self, chosen: Tensor, rejected: Tensor, strength: Tensor | None = None) -> Loss:
        """chosen, rejected: (B,) rewards. strength: (B,), needed by margin and scaled."""
        gap = chosen - rejected
        if self.form == "plain":
            items = -logsigmoid(gap)
        elif strength is None:
            raise ConfigError(f"RewardBradleyTerry({self.form}) needs the strength of each pair.")
        elif self.form == "margin":
            items = -logsigmoid(gap - strength)
        else:
            items = -strength * logsigmoid(gap)
        value = items.mean()
        if self.centering:
            value = value + self.centering * (chosen + rejected).square().mean()
        right = (gap > 0).double() + 0.5 * (gap == 0)
        return Loss(value, items, {"rm_accuracy_label": float(right.mean())})


@torch.no_grad()
def extrapolate(start: Tensor, end: Tensor, factor: float) -> Tensor:
    """ExPO: start + factor (end - start), of weights (d,); factor > 1 goes past what was trained.

    Zheng et al., "Weak-to-Strong Extrapolation Expedites Alignment", 2024, Eq. 1.
    """
    return start + factor * (end - start)
