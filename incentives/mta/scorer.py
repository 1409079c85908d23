"""MTA scorer: one small network scores every server alike, another the rejection.

Paper: none; our choice within arXiv 2208.05120's setting (a
shared per-server scorer). Equivariant: permuting servers permutes the scores; any n will do.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from incentives.mta.features import RELATIVE_VALUE, WIDTH

NEVER = -1e4  # the score of a server that may not be chosen


class MTAScorer(nn.Module):
    """Two layers per server; the second also sees maximum and mean of the first over feasible
    servers. Starts as the greedy rule (last layers zero, `boldness` times the relative value).

    hidden: width of both layers, >= 1. rng: draws the first weights.
    """

    def __init__(self, hidden: int, rng: np.random.Generator):
        super().__init__()
        self.own = _linear(WIDTH, hidden, rng)
        self.mixed = _linear(3 * hidden, hidden, rng)
        self.score = _linear(hidden, 1, rng, scale=0.0)
        self.refuse = _linear(2 * hidden, hidden, rng)
        self.refusal = _linear(hidden, 1, rng, scale=0.0, bias=-1.0)
        self.boldness = nn.Parameter(torch.tensor(15.0))

    def forward(self, features: Tensor, feasible: Tensor) -> Tensor:
        """features (..., n, WIDTH), feasible (..., n) -> scores (..., n + 1), the last rejects."""
        mine, open_ = self.own(features).relu(), feasible[..., None]
        largest = torch.where(open_, mine, 0.0).amax(dim=-2)
        mean = (mine * open_).sum(dim=-2) / open_.sum(dim=-2).clamp(min=1)
        crowd = torch.cat([largest, mean], dim=-1)  # (..., 2 hidden)
        width = mine.shape[-1]
        weight, bias = self.mixed.weight, self.mixed.bias  # W [mine, crowd], crowd only once
        from_crowd = nn.functional.linear(crowd, weight[:, width:], bias)
        mixed = nn.functional.linear(mine, weight[:, :width]) + from_crowd[..., None, :]
        scores = self.score(mixed.relu())[..., 0] + self.boldness * features[..., RELATIVE_VALUE]
        reject = self.refusal(self.refuse(crowd).relu())
        return torch.cat([scores.masked_fill(~feasible, NEVER), reject], dim=-1)


def _linear(
    inputs: int, outputs: int, rng: np.random.Generator, scale: float = 1.0, bias: float = 0.0
) -> nn.Linear:
    """Uniform in +-scale/sqrt(inputs) from `rng`, never from torch's global generator."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    drawn = rng.uniform(-1, 1, (outputs, inputs)) * scale / np.sqrt(inputs)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(drawn))
        layer.bias.fill_(bias)
    return layer
