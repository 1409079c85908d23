"""The Gram kernel: all inner products of n vectors in one pass over their n x d values.

Krum, Multi-Krum, Bulyan, the geometric median, centered clipping, NNM, FoolsGold, FLTrust, FLAME
and the Min-Max family need nothing else: |sum c_i x_i - x_j|^2 = c'Gc - 2 (Gc)_j + G_jj.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedalign.core.vectors import chunks


def gram(*blocks: Tensor, origin: Tensor | None = None) -> Tensor:
    """Inner products of all rows of all blocks, each minus `origin` (d,).

    blocks: each (k, d) or (d,). Returns (n, n) float64, n the number of stacked rows. A common
    origin (a row, the last aggregate) keeps float32 cancellation harmless for distances.
    """
    rows = torch.cat([block.reshape(-1, block.shape[-1]) for block in blocks])
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for span in chunks(rows.shape[1], 16_384):
        part = rows[:, span] if origin is None else rows[:, span] - origin[span]
        total += (part @ part.T).double()
    return total


def squared_distances(gram: Tensor) -> Tensor:
    """(n, n) Gram matrix -> (n, n) squared distances, diagonal exactly 0, none negative."""
    squares = gram.diagonal()
    distances = (squares[:, None] + squares[None, :] - 2 * gram).clamp_(min=0)
    return distances.fill_diagonal_(0)
