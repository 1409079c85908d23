"""Binary selector: a model that reads two answers, one behind the other, and says which is better.

Paper: Wu et al., "Towards Federated RLHF with Aggregated Client Preference for LLMs" (FedBis), ICLR
2025.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from fedalign.objectives.terms import Loss, RewardObjective, pooled


@dataclass(frozen=True)
class RewardSelector(RewardObjective):
    """Cross-entropy of the one bit "is the first answer better". Which answer comes first is drawn
    anew for every pair and round; where the selector is used it is asked both ways round. pool: what
    the head reads, last, the state at the last token of the second answer, or mean, the mean over
    the first answer minus that over the second, which has read the first."""

    pool: Literal["last", "mean"] = "last"

    jointly: ClassVar[bool] = True

    def __post_init__(self) -> None:
        pooled(self, self.pool)

    def __call__(self, said: Tensor, first: Tensor) -> Loss:
        """said: (B,), log-odds that the first answer is better. first: (B,) bool, whether it is."""
        toward = torch.where(first, said, -said)
        right = (toward > 0).double() + 0.5 * (toward == 0)
        items = -logsigmoid(toward)
        return Loss(items.mean(), items, {"rm_accuracy_label": float(right.mean())})
