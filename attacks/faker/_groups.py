"""Groups of parameters that share one Faker scalar, and the one read and one write they cost.

Group of coordinate j: `labels[j % len(labels)]`. A permuted grouping is drawn once for a block of
65,536 coordinates and repeats, so that labels and scalars stay in the cache at any d.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedalign.core.errors import ConfigError
from fedalign.core.vectors import CHUNK, Layout, chunks


@dataclass(frozen=True)
class Groups:
    """labels: (P,) int64 with P <= columns; every group occurs. count: T. columns: d."""

    labels: Tensor
    count: int
    columns: int

    @staticmethod
    def permuted(columns: int, count: int, rng: np.random.Generator) -> Groups:
        """T groups of near-equal size, members scattered at random; T = d is one per scalar."""
        _check(columns, count)
        if count == columns:
            return Groups(torch.arange(columns), columns, columns)
        period = columns if count > CHUNK else min(columns, CHUNK)
        return Groups(torch.from_numpy(rng.permutation(period) % count), count, columns)

    @staticmethod
    def contiguous(columns: int, count: int) -> Groups:
        """T runs of near-equal length, in order."""
        _check(columns, count)
        return Groups(torch.arange(columns) * count // columns, count, columns)

    @staticmethod
    def tensors(layout: Layout) -> Groups:
        """One group per tensor of the layout."""
        sizes = torch.tensor([part.size for part in layout.parts])
        labels = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        return Groups(labels, len(sizes), layout.size)

    @property
    def single(self) -> bool:
        """Whether every coordinate is its own group."""
        return self.count == self.columns

    def sizes(self) -> np.ndarray:
        """n_g, (T,) float64."""
        if self.single:
            return np.ones(self.columns)
        repeats, rest = divmod(self.columns, len(self.labels))
        tail = torch.bincount(self.labels[:rest], minlength=self.count)
        whole = torch.bincount(self.labels, minlength=self.count)
        return (repeats * whole + tail).double().numpy()

    def sums(self, a: Tensor, b: Tensor) -> np.ndarray:
        """Sum of a_j b_j over each group, (T,) float64; a, b: (d,)."""
        if self.single:
            return (a.double() * b.double()).cpu().numpy()
        labels = self.labels.to(a.device)
        if len(labels) > CHUNK:  # no period: sum chunk by chunk
            total = torch.zeros(self.count, dtype=torch.float64, device=a.device)
            for span in chunks(self.columns):
                products = a[span].double() * b[span].double()
                total += torch.bincount(labels[span], products, minlength=self.count)
            return total.cpu().numpy()
        folded = torch.zeros(len(labels), dtype=torch.float64, device=a.device)
        left, right = torch.empty_like(folded), torch.empty_like(folded)
        for span in chunks(self.columns, len(labels)):
            size = span.stop - span.start
            left[:size], right[:size] = a[span], b[span]
            folded[:size].addcmul_(left[:size], right[:size])
        return torch.bincount(labels, folded, minlength=self.count).cpu().numpy()

    def scale(self, alpha: np.ndarray, row: Tensor) -> Tensor:
        """alpha_g * w_j, (d,) in the dtype of `row`; alpha: (T,)."""
        factors = torch.from_numpy(np.ascontiguousarray(alpha)).to(row)
        if self.single:
            return row * factors
        period = len(self.labels)
        factors = factors[self.labels.to(row.device)]
        if period == self.columns:
            return row * factors
        result, whole = torch.empty_like(row), self.columns // period * period
        torch.mul(row[:whole].view(-1, period), factors, out=result[:whole].view(-1, period))
        torch.mul(row[whole:], factors[: self.columns - whole], out=result[whole:])
        return result


def _check(columns: int, count: int) -> None:
    if not 1 <= count <= columns:
        raise ConfigError(
            f"Faker was asked for groups={count} on {columns} parameters: "
            f"use a number from 1 to {columns}, or null for the default."
        )
