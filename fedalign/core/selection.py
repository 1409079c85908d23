"""The selection kernel: per-coordinate order statistics of an (n, d) matrix.

Median, trimmed mean, Meamed and Bulyan's second stage need only these three functions. Columns
are worked on in chunks; up to n = 128 a pruned sorting network runs on the rows as they lie,
beyond that (and off the CPU) the chunk is sorted. Sums are float64: equal values average to
themselves, and a mean never leaves the range of what it averages. Order statistics are exact,
so results depend neither on threads nor on the way taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from fedalign.core.network import Network, Role
from fedalign.core.vectors import chunks

LARGEST_NETWORK = 128  # rows; beyond, n log² n comparators lose against sorting
_COLUMNS = 16_384  # per chunk with a network: one operation outweighs its own overhead
_SORTED_COLUMNS = 2_048  # per chunk where chunks are transposed and sorted

Wires = Sequence[Tensor]  # n rows, smallest first


def median(updates: Tensor) -> Tensor:
    """(n, d) -> (d,): the middle value, for even n the mean of the two middle values."""
    low, high = _middle(len(updates))
    return _by_column(updates, read=(low, high), summed=(), finish=_median_of)


def trimmed_mean(updates: Tensor, trim: int) -> Tensor:
    """(n, d) -> (d,): mean without the `trim` smallest and largest; 0 <= 2 trim < n."""
    kept = range(trim, len(updates) - trim)
    return _by_column(
        updates,
        read=(),
        summed=kept,
        finish=lambda wires: _sum(wires[i] for i in kept).div_(len(kept)),
    )


def mean_around_median(updates: Tensor, keep: int) -> Tensor:
    """(n, d) -> (d,): mean of the `keep` values nearest the median; ties: lowest window.

    The nearest values are a window of the sorted column that holds a middle position, so it
    starts in first .. last below. Moving it one up swaps y_i for y_{i+keep}, and pays as long as
    y_{i+keep} is nearer: each such pair is decided alone, everything between is always in. No
    prefix sums, hence no cancellation against an outlier that is not in the window.
    """
    low, high = _middle(len(updates))
    first, last = max(0, low - keep + 1), min(len(updates) - keep, high)
    pairs = [(i, i + keep) for i in range(first, last)]
    core = range(last, first + keep)

    def finish(wires: Wires) -> Tensor:
        middle = _median_of(wires)
        nearest = (_nearer(wires[i], wires[j], middle) for i, j in pairs)
        return _sum([*(wires[i] for i in core), *nearest]).div_(keep)

    read = {low, high, *(i for pair in pairs for i in pair)}
    return _by_column(updates, read=read, summed=core, finish=finish)


def _middle(n: int) -> tuple[int, int]:
    return (n - 1) // 2, n // 2


def _median_of(wires: Wires) -> Tensor:
    low, high = (wires[i] for i in _middle(len(wires)))
    return torch.add(low * 0.5, high, alpha=0.5)  # halves first: no overflow


def _nearer(low: Tensor, high: Tensor, middle: Tensor) -> Tensor:
    return torch.where(high - middle < middle - low, high, low)


def _sum(rows: Iterable[Tensor]) -> Tensor:
    first, *others = rows
    total = first.to(torch.float64, copy=True)
    wide = torch.empty_like(total)
    for row in others:
        total.add_(wide.copy_(row))
    return total


def _by_column(
    updates: Tensor,
    read: Iterable[int],
    summed: Iterable[int],
    finish: Callable[[Wires], Tensor],
) -> Tensor:
    """Sort every column as far as needed and let `finish` turn n wires into one row."""
    n, columns = updates.shape
    result = torch.empty(columns, dtype=updates.dtype, device=updates.device)
    plain = updates.device.type == "cpu" and updates.dtype in (torch.float32, torch.float64)
    if plain and n <= LARGEST_NETWORK:
        roles = [Role.UNREAD] * n
        for i in summed:
            roles[i] = Role.SUMMED
        for i in read:
            roles[i] = Role.READ
        size = min(columns, _COLUMNS)
        order: Callable[[Tensor], Wires] = Network.of(roles).bind(size, like=updates)
    else:
        size, order = _SORTED_COLUMNS, _sorted if plain else _sorted_by_torch
    for span in chunks(columns, size):
        result[span] = finish(order(updates[:, span]))[: span.stop - span.start]
    return result


def _sorted(chunk: Tensor) -> Wires:
    columns = np.sort(np.ascontiguousarray(chunk.numpy().T), axis=1)  # vectorised along a row
    return torch.from_numpy(np.ascontiguousarray(columns.T)).unbind()


def _sorted_by_torch(chunk: Tensor) -> Wires:
    return chunk.sort(dim=0).values.unbind()
