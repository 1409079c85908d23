"""Payloads: trainable tensors as one flat vector (d,), and exact combinations of many.

Attacks, defenses, chain and incentives see only vectors and the layout that names their parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

CHUNK = 65_536  # columns worked on at a time; fixed, so that results do not depend on threads


@dataclass(frozen=True)
class Part:
    """One tensor inside a vector: `vector[offset : offset + size].view(shape)`."""

    name: str
    offset: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def span(self) -> slice:
        return slice(self.offset, self.offset + self.size)


@dataclass(frozen=True)
class Layout:
    """Where each tensor lies in the vector: parts sorted by name, without gaps."""

    parts: tuple[Part, ...]

    @staticmethod
    def of(shapes: Mapping[str, Iterable[int]]) -> Layout:
        """Lay tensors of these shapes out by sorted name."""
        parts, offset = [], 0
        for name in sorted(shapes):
            parts.append(Part(name, offset, tuple(shapes[name])))
            offset += parts[-1].size
        return Layout(tuple(parts))

    @property
    def size(self) -> int:
        """d, the number of values."""
        return sum(part.size for part in self.parts)

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Named tensors -> (d,), a copy."""
        return torch.cat([tensors[part.name].detach().reshape(-1) for part in self.parts])

    def views(self, vector: Tensor) -> dict[str, Tensor]:
        """(..., d) -> {name: (..., *shape)} sharing memory with `vector`."""
        lead = vector.shape[:-1]
        return {part.name: vector[..., part.span].view(*lead, *part.shape) for part in self.parts}


def chunks(columns: int, size: int = CHUNK) -> Iterator[slice]:
    """Cut `columns` into slices of `size`, in order."""
    for start in range(0, columns, size):
        yield slice(start, min(start + size, columns))


def combine(coefficients: Tensor, rows: Tensor) -> Tensor:
    """Linear combination sum_i c_i x_i, row by row in order, accumulated in float64.

    coefficients: (n,) or (k, n). rows: (n, d). Rows with coefficient 0 are not read, so a
    rejected row cannot leak into the sum. Returns (d,) or (k, d) in the dtype of `rows`.
    """
    if coefficients.dim() == 2:
        return torch.stack([combine(line, rows) for line in coefficients])
    used = [(i, c) for i, c in enumerate(coefficients.tolist()) if c != 0.0]
    result = torch.empty(rows.shape[1], dtype=rows.dtype, device=rows.device)
    for span in chunks(rows.shape[1]):
        total = torch.zeros(span.stop - span.start, dtype=torch.float64, device=rows.device)
        for i, c in used:
            total.add_(rows[i, span], alpha=c)
        result[span] = total
    return result
