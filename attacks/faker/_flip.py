"""Solver F: flip the signs of the smallest weights until the cosine budget is spent.

With the flipped share phi of the energy: |w'| = |w| bit for bit, cos = 1 - 2 phi,
|w' - w|^2 = 4 phi E. The most flips at cos >= tau is the longest ascending prefix with
phi <= (1 - tau) / 2. It is found without a full sort: magnitudes are binned by the leading bits
of their float32 pattern, and only the bin in which the budget ends is sorted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedalign.core.vectors import chunks

SHIFT = 19  # 8 exponent and 4 mantissa bits of float32 remain: 4096 bins


def flip(row: Tensor, tau: float, frozen: float = 0.0) -> Tensor:
    """(d,) -> (d,) with flipped signs. tau: cosine floor, -1 .. 1. frozen: energy of values
    outside `row` that keep their sign. Zeros are left alone; equal magnitudes: lowest index."""
    bins, energies = _histogram(row)
    total = float(energies.sum())
    budget = min((1 - tau) * (total + frozen) / 2, total)
    below = energies.cumsum(0)
    if budget >= total:
        return -row
    last = int((below <= budget).sum())  # the first bin that does not fit as a whole
    spent = float(below[last - 1]) if last else 0.0
    flipped = torch.where(bins < last, -row, row)
    inside = torch.nonzero(bins == last).squeeze(1)
    order = row[inside].abs().sort(stable=True)
    fits = order.values.double().square().cumsum(0) <= budget - spent
    chosen = inside[order.indices[fits]]
    chosen = chosen[row[chosen] != 0]
    flipped[chosen] = -row[chosen]
    return flipped


def _histogram(row: Tensor) -> tuple[Tensor, Tensor]:
    """Bin of every magnitude, (d,) int32, and energy per bin, (4096,) float64."""
    bins = torch.empty(row.shape, dtype=torch.int32, device=row.device)
    energies = torch.zeros(4096, dtype=torch.float64, device=row.device)
    for span in chunks(len(row)):
        part = row[span]
        torch.bitwise_right_shift(part.abs().float().view(torch.int32), SHIFT, out=bins[span])
        energies += torch.bincount(bins[span], part.double().square(), minlength=4096)
    return bins, energies
