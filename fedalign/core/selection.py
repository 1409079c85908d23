"""The selection kernel: per-coordinate order statistics of an (n, d) matrix.

Median, trimmed mean, Meamed and Bulyan's second stage need only these three functions, and all
three are means of a window of the sorted column. A pruned sorting network runs on blocks of
columns that stay in the cache; for more rows than LARGEST_NETWORK, and off the CPU, chunks are
sorted. Sums are float64: equal values average to themselves, and a mean never leaves the range
of what it averages. Order statistics are exact, so results do not depend on the way taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fedalign.core.network import Role, network
from fedalign.core.vectors import chunks

LARGEST_NETWORK = 1024  # rows; beyond, n log² n comparators lose against sorting
_SORTED_COLUMNS = 2_048  # per chunk where chunks are sorted


def median(updates: Tensor) -> Tensor:
    """(n, d) -> (d,): the middle value, for even n the mean of the two middle values."""
    return trimmed_mean(updates, (len(updates) - 1) // 2)


def trimmed_mean(updates: Tensor, trim: int) -> Tensor:
    """(n, d) -> (d,): mean without the `trim` smallest and largest; 0 <= 2 trim < n."""
    n = len(updates)
    return _window_means(updates, range(n), range(trim, n - trim), range(0), n - 2 * trim)


def mean_around_median(updates: Tensor, keep: int, chosen: Sequence[int] | None = None) -> Tensor:
    """(n, d) -> (d,): mean of the `keep` values nearest the median; ties: lowest window.

    chosen: the rows to look at, None means all.

    The nearest values are a window of the sorted column that holds a middle position, so it
    starts in first .. last below. Moving it one up swaps y_i for y_{i+keep}, and pays as long as
    y_{i+keep} is nearer: each such pair is decided alone, everything between is always in. No
    prefix sums, hence no cancellation against an outlier that is not in the window.
    """
    rows = range(len(updates)) if chosen is None else chosen
    n = len(rows)
    first, last = max(0, (n - 1) // 2 - keep + 1), min(n - keep, n // 2)
    return _window_means(updates, rows, range(last, first + keep), range(first, last), keep)


def _window_means(
    updates: Tensor, rows: Sequence[int], core: range, free: range, keep: int
) -> Tensor:
    """Mean of the sorted values `core` and, for i in `free`, the nearer of i and i + keep."""
    if len(rows) <= LARGEST_NETWORK and _on_numpy(updates):
        return _by_network(updates, rows, core, free, keep)
    result = torch.empty(updates.shape[1], dtype=updates.dtype, device=updates.device)
    for span in chunks(updates.shape[1], _SORTED_COLUMNS):
        result[span] = _by_sorting(updates[list(rows), span], core, free, keep)
    return result


def _by_network(
    updates: Tensor, rows: Sequence[int], core: range, free: range, keep: int
) -> Tensor:
    from fedalign.core import compiled

    n = len(rows)
    roles = [Role.SUMMED if i in core else Role.UNREAD for i in range(n)]
    for i in {(n - 1) // 2, n // 2, *free, *(i + keep for i in free)} if free else ():
        roles[i] = Role.READ
    compiled.window_means(
        updates.detach().contiguous().numpy(),
        np.array(rows),
        network(tuple(roles)),
        (core.start, core.stop),
        (free.start, free.stop),
        keep,
        (result := torch.empty(updates.shape[1], dtype=updates.dtype)).numpy(),
    )
    return result


def _on_numpy(values: Tensor) -> bool:
    return values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64)


def _by_sorting(rows: Tensor, core: range, free: range, keep: int) -> Tensor:
    columns = rows.T.contiguous()
    if _on_numpy(columns):  # it sorts twenty times faster than torch
        wires = torch.from_numpy(np.sort(columns.detach().numpy(), axis=1)).T
    else:
        wires = columns.sort(dim=1).values.T
    n = len(wires)
    middle = torch.add(wires[(n - 1) // 2] * 0.5, wires[n // 2], alpha=0.5)
    low, high = wires[free.start : free.stop], wires[free.start + keep : free.stop + keep]
    nearest = torch.where(high - middle < middle - low, high, low)
    counted = torch.cat([wires[core.start : core.stop], nearest])
    return counted.sum(dim=0, dtype=torch.float64).div_(keep)
