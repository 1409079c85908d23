"""Statistics of rows (k, d) in float64, without a float64 copy of the matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from fedalign.core.vectors import chunks, combine


def mean(rows: Tensor) -> Tensor:
    """(k, d) -> (d,), accumulated in float64."""
    return combine(torch.full((len(rows),), 1 / len(rows), dtype=torch.float64), rows)


def deviation(rows: Tensor) -> Tensor:
    """(k, d) -> (d,): standard deviation with ddof = 1; zeros where there is one row."""
    if len(rows) == 1:
        return torch.zeros_like(rows[0])
    result, centre = torch.empty_like(rows[0]), mean(rows)
    for span in chunks(rows.shape[1], 16_384):
        total = torch.zeros(span.stop - span.start, dtype=torch.float64, device=rows.device)
        middle, gap = centre[span].double(), torch.empty_like(total)
        for row in rows[:, span]:
            torch.sub(row, middle, out=gap)
            total.addcmul_(gap, gap)
        result[span] = total.div_(len(rows) - 1).sqrt_()
    return result


def dot(a: Tensor, b: Tensor) -> float:
    """Inner product of two vectors (d,), accumulated in float64 chunk by chunk."""
    return sum(float(torch.dot(a[s].double(), b[s].double())) for s in chunks(len(a)))


def norm(a: Tensor) -> float:
    """Euclidean norm of one vector (d,), accumulated in float64."""
    return dot(a, a) ** 0.5


def clones(row: Tensor, count: int) -> Tensor:
    """(d,) -> (count, d): bitwise equal copies."""
    return row.expand(count, -1).contiguous()
