"""The selection kernel: per-coordinate order statistics of an (n, d) matrix.

Median, trimmed mean, Meamed and Bulyan's second stage need only these two functions.
"""

from __future__ import annotations

import torch
from torch import Tensor


def median(updates: Tensor) -> Tensor:
    """(n, d) -> (d,): the middle value, for even n the mean of the two middle values."""
    ordered = updates.sort(dim=0).values
    n = len(updates)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def trimmed_mean(updates: Tensor, trim: int) -> Tensor:
    """(n, d) -> (d,): mean without the `trim` smallest and largest; 0 <= 2 trim < n."""
    return updates.sort(dim=0).values[trim : len(updates) - trim].mean(dim=0)


def mean_around_median(updates: Tensor, keep: int) -> Tensor:
    """(n, d) -> (d,): mean of the `keep` values nearest the median; ties: lowest window."""
    n = len(updates)
    ordered, middle = updates.sort(dim=0).values, median(updates)
    windows = n - keep + 1
    spread = torch.stack(
        [torch.maximum(middle - ordered[i], ordered[i + keep - 1] - middle) for i in range(windows)]
    )
    best = spread.argmin(dim=0)
    sums = torch.cat([torch.zeros_like(ordered[:1]), ordered.cumsum(dim=0)])
    return (sums.gather(0, best[None] + keep) - sums.gather(0, best[None]))[0] / keep
