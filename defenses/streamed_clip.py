"""Streamed clip: shorten every update that is longer than a fixed bound, add it up, let it go.

Paper: Sun et al., "Can You Really Backdoor Federated Learning?", arXiv 1911.07963, 2019,
Section 3 (norm thresholding); with the bound fixed, no update waits for another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from defenses._checks import check, check_space
from defenses.streamed_mean import added
from fedalign.core.contracts import Aggregate, Context
from fedalign.core.moments import moments
from fedalign.core.streams import Partial, StreamingDefense
from fedalign.core.threat import Family, Space


@dataclass(frozen=True)
class StreamedClip(StreamingDefense):
    """Mean of x_i min(1, C / |x_i|). Bounds the influence of f clients by f C / n.

    bound: C > 0, a length of updates. space: what attacks measure themselves against.
    """

    bound: float = 1.0
    space: Space = "update"

    family: ClassVar[Family] = "norm"
    linear: ClassVar[bool] = False
    test: ClassVar[Literal["none"]] = "none"

    def __post_init__(self) -> None:
        check(self.bound > 0, "StreamedClip", "bound", "positive", self.bound)
        check_space("StreamedClip", self.space)

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        found = self.finish(self.add(None, updates, context))
        return replace(found, vector=found.vector.to(updates.dtype))

    def add(self, partial: Partial | None, updates: Tensor, context: Context) -> Partial:
        lengths = moments(updates)[0].sqrt()
        factors = torch.where(lengths > self.bound, self.bound / lengths, 1.0)
        return added(partial, updates, factors.double(), torch.ones(len(updates)))

    def finish(self, partial: Partial) -> Aggregate:
        accepted = torch.ones(partial.count, dtype=torch.bool, device=partial.total.device)
        return Aggregate(partial.total / partial.weight, accepted)
