"""Subsets: random coordinates of a vector, drawn per span or as whole blocks."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
from torch import Tensor


def subset_of_each(
    spans: Sequence[slice], share: float, rng: np.random.Generator, exact: bool = True
) -> list[Tensor]:
    """For every span, sorted indices of about `share` (0 < share <= 1) of its coordinates.

    exact: ceil(share * size) of them without replacement; else each coordinate by its own coin.
    Never empty. The result depends on the generator and the spans alone.
    """
    return [
        torch.from_numpy(span.start + _draw(span.stop - span.start, share, rng, exact))
        for span in spans
    ]


def subset_of_blocks(columns: int, size: int, share: float, rng: np.random.Generator) -> Tensor:
    """Sorted indices of ceil(share * blocks) contiguous blocks of `size` coordinates.

    Unlike scattered coordinates they touch only a share of the memory.
    """
    starts = size * _draw(ceil(columns / size), share, rng, exact=True)
    return torch.cat([torch.arange(s, min(s + size, columns)) for s in starts.tolist()])


def _draw(size: int, share: float, rng: np.random.Generator, exact: bool) -> np.ndarray:
    if share >= 1:
        return np.arange(size)
    if exact:
        count = max(1, ceil(share * size - 1e-9))  # 0.1 * 30 is a little more than 3
        return np.sort(rng.choice(size, count, replace=False, shuffle=False))
    chosen = np.flatnonzero(rng.random(size, dtype=np.float32) < share)
    return chosen if len(chosen) else rng.integers(size, size=1)
