"""MTA playout: many episodes side by side under one scorer.

Paper: none; our choice within arXiv 2208.05120's setting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from incentives.mta.features import Problems
from incentives.mta.scorer import MTAScorer


@dataclass(frozen=True)
class Playout:
    """earned: (I, R) sum of values in units. actions: (m, I, R), n rejects. features, feasible:
    what was seen, (m, I, R, n, ...), None unless kept."""

    earned: Tensor
    actions: Tensor
    features: Tensor | None = None
    feasible: Tensor | None = None

    @classmethod
    def of(cls, scorer: MTAScorer, problems: Problems, noise: np.ndarray, keep: bool) -> Playout:
        """noise: (m, I, R, n + 1) added to the scores: Gumbel numbers sample the softmax, zeros
        take the best server, the lowest index among equals."""
        tasks, instances, rounds, _ = noise.shape
        n = problems.capacity.shape[-1]
        remaining = problems.capacity[:, None].expand(instances, rounds, n).clone()
        earned = torch.zeros(instances, rounds, dtype=torch.float64)
        noise_ = torch.from_numpy(noise)
        actions, seen, open_ = [], [], []
        with torch.no_grad():
            for task in range(tasks):
                features = problems.at(task, remaining)
                feasible = problems.feasible(task, remaining)
                action = (scorer(features, feasible) + noise_[task]).argmax(dim=-1)  # (I, R)
                at, served = action.clamp(max=n - 1)[..., None], (action < n)[..., None]

                def taken(matrix: Tensor, at=at, served=served, task=task) -> Tensor:
                    row = matrix[:, None, task].expand(instances, rounds, n)
                    return torch.where(served, row.gather(-1, at), 0.0)

                earned += taken(problems.value)[..., 0]
                remaining.scatter_add_(-1, at, -taken(problems.work))
                actions.append(action)
                if keep:
                    seen.append(features)
                    open_.append(feasible)
        kept = (torch.stack(seen), torch.stack(open_)) if keep else (None, None)
        return cls(earned, torch.stack(actions), *kept)
