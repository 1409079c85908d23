"""Payloads: trainable tensors as one flat vector (d,), and exact combinations of many.

Attacks, defenses, chain and incentives see only vectors and the layout that names their parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

CHUNK = 65_536  # columns worked on at a time; fixed, so that results do not depend on threads
_TILE = 32  # rows that `combine` widens to float64 at a time


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


def finite(rows: Tensor) -> Tensor:
    """(n, d) -> (n,) bool, rows without NaN or Inf. A row whose sum is finite has none."""
    sums = torch.isfinite(rows.sum(dim=1))
    return sums if bool(sums.all()) else torch.isfinite(rows).all(dim=1)


def plain(*tensors: Tensor | None) -> bool:
    """Whether all (that are there) are contiguous float32 on the CPU, as compiled loops want."""
    return all(
        x is None or (x.dtype == torch.float32 and x.device.type == "cpu" and x.is_contiguous())
        for x in tensors
    )


def blank(count: int, like: Tensor) -> Tensor:
    """(count, d) values to be written, of the kind of `like` (n, d).

    NumPy asks for huge pages where torch does not: the first write to 80 MB is five times faster.
    """
    if like.dtype == torch.float32 and like.device.type == "cpu":
        return torch.from_numpy(np.empty((count, like.shape[1]), np.float32))
    return torch.empty(count, like.shape[1], dtype=like.dtype, device=like.device)


def counted(coefficients: Tensor) -> Tensor:
    """(n,) bool: whose weight is at least a tenth of an equal share, 1/(10 n) of all weights; one
    that lies on this border is in, however its sum was rounded."""
    weights = coefficients.abs()
    return (weights > 0) & (weights >= weights.sum() / (10 * len(weights)) * (1 - 1e-9))


def combine(coefficients: Tensor, rows: Tensor) -> Tensor:
    """Linear combination sum_i c_i x_i, accumulated in float64.

    coefficients: (n,) or (k, n). rows: (n, d). Rows with coefficient 0 (in all k lines) are not
    read, so a rejected row cannot leak into the sum. Returns (d,) or (k, d) in the dtype of
    `rows`. Float64 rows are added one by one in order, without BLAS.
    """
    lines = coefficients.to(device=rows.device, dtype=torch.float64).reshape(-1, len(rows))
    read = (lines != 0).any(dim=0).nonzero()[:, 0].tolist()
    result = blank(len(lines), rows)
    if not read:
        result.zero_()
    elif plain(rows):
        _combine_compiled(lines[:, read], rows, read, result)
    elif rows.dtype == torch.float64:
        _combine_in_order(lines[:, read], rows, read, result)
    else:
        _combine_by_chunk(lines[:, read], rows, read, result)
    return result if coefficients.dim() == 2 else result[0]


def _combine_compiled(lines: Tensor, rows: Tensor, read: list[int], result: Tensor) -> None:
    """Loops take several rows and lines at a time: what is missing has coefficient 0."""
    from fedalign.core import compiled

    single = len(lines) == 1
    wide, tall = (-len(read) % 8, 0) if single else (-len(read) % 4, -len(lines) % 4)
    weights = torch.nn.functional.pad(lines, (0, wide, 0, tall)).numpy()
    places, values = np.array(read + read[-1:] * wide), rows.detach().numpy()
    if single:
        compiled.combination(weights[0], values, places, result[0].numpy())
    else:
        compiled.combinations(weights, values, places, result.numpy())


def _combine_by_chunk(lines: Tensor, rows: Tensor, read: list[int], result: Tensor) -> None:
    """Widen a tile of the rows that are read, add its products, narrow: about 4 MB at work."""
    size = min(rows.shape[1], max(2048, min(16_384, 2**19 // (len(lines) + _TILE))))
    for span in chunks(rows.shape[1], size):
        total = lines.new_zeros(len(lines), span.stop - span.start)
        for tile in chunks(len(read), _TILE):
            total.addmm_(lines[:, tile], rows[read[tile], span].double())
        result[:, span] = total


def _combine_in_order(lines: Tensor, rows: Tensor, read: list[int], result: Tensor) -> None:
    for line, total in zip(lines.tolist(), result, strict=True):
        total.zero_()
        for span in chunks(rows.shape[1]):
            for c, i in zip(line, read, strict=True):
                if c != 0.0:
                    total[span].add_(rows[i, span], alpha=c)
