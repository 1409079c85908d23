"""The Gram kernel: all inner products of n vectors in one pass over their n x d values.

Krum, Multi-Krum, Bulyan, the geometric median, centered clipping, NNM, FoolsGold, FLTrust, FLAME
and the Min-Max family need nothing else: |sum c_i x_i - x_j|^2 = c'Gc - 2 (Gc)_j + G_jj.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fedalign.core.vectors import chunks

_COLUMNS = 16_384
_PIECE = 1024  # products added up in float32 before float64 takes over
_CLONE_FLOOR = 2.0**-12  # see _join_clones
_CANCELS = 2.0**-7  # distance² / (norm² + norm²) below which float32 products need an origin


def gram(*blocks: Tensor, origin: Tensor | None = None) -> Tensor:
    """Inner products of all rows of all blocks, each minus `origin` (d,).

    blocks: each (k, d) or (d,). Returns (n, n) float64, n the number of stacked rows, symmetric.
    Float32 rows are multiplied in float32 and chunks added in float64; where that overflows (a
    row at 1e30), in float64 throughout. Float64 rows are multiplied and added in a fixed order
    without BLAS. Equal rows have equal inner products to the last bit: distance exactly 0.
    """
    rows = [block.reshape(-1, block.shape[-1]) for block in blocks]
    if any(block.dtype == torch.float64 for block in rows):
        return _accumulate(rows, origin, _ordered_products)
    plain = all(block.dtype == torch.float32 and block.device.type == "cpu" for block in rows)
    total = _compiled(rows, origin) if plain else _accumulate(rows, origin, _products)
    if not bool(torch.isfinite(total).all()):
        total = _accumulate(rows, origin, _double_products)
        total = (total + total.T) / 2
    return _join_clones(total, rows)


def centred_gram(updates: Tensor) -> Tensor:
    """`gram` about an origin near the rows, for what only depends on their differences.

    The origin is 0 unless most pairs are much closer to each other than to 0; then it is the row
    whose median distance to the others is smallest, which a minority cannot drag away.
    """
    products = gram(updates)
    if len(updates) < 2 or updates.dtype == torch.float64:
        return products
    squared = squared_distances(products)
    sizes = products.diagonal()
    pairs = torch.triu_indices(len(updates), len(updates), offset=1, device=updates.device)
    closeness = squared[pairs[0], pairs[1]] / (sizes[pairs[0]] + sizes[pairs[1]])
    if not bool(closeness.median() < _CANCELS):
        return products
    return gram(updates, origin=updates[int(squared.median(dim=1).values.argmin())])


def squared_distances(gram: Tensor) -> Tensor:
    """(n, n) Gram matrix -> (n, n) squared distances, diagonal exactly 0, none negative."""
    squares = gram.diagonal()
    distances = (squares[:, None] + squares[None, :] - 2 * gram).clamp_(min=0)
    return distances.fill_diagonal_(0)


def _compiled(rows: list[Tensor], origin: Tensor | None) -> Tensor:
    from fedalign.core import compiled

    n, columns = sum(len(block) for block in rows), rows[0].shape[1]
    total = torch.zeros(n + -n % 4, n + -n % 4, dtype=torch.float64)
    whole = len(rows) == 1 and rows[0].is_contiguous()
    for span in chunks(columns, max(columns, 1) if whole else _COLUMNS):
        part = rows[0] if whole else torch.cat([block[:, span] for block in rows])
        about = None if origin is None else origin[span].float().contiguous().detach().numpy()
        compiled.products(part.detach().numpy(), about, total.numpy())
    upper = total[:n, :n].triu()
    return upper + upper.triu(1).T


def _accumulate(
    rows: list[Tensor], origin: Tensor | None, multiply: Callable[[Tensor], Tensor]
) -> Tensor:
    n, columns = sum(len(block) for block in rows), rows[0].shape[1]
    total = torch.zeros(n, n, dtype=torch.float64, device=rows[0].device)
    for span in chunks(columns, _COLUMNS):
        part = rows[0][:, span] if len(rows) == 1 else torch.cat([block[:, span] for block in rows])
        total += multiply(part if origin is None else part - origin[span])
    return total


def _products(part: Tensor) -> Tensor:
    """Off the CPU and for half precision: pieces in float32, as one batch, their sum in float64."""
    pieces = max(2, -(-part.shape[1] // _PIECE))  # a batch of one would be split among threads
    part = torch.nn.functional.pad(part.float(), (0, pieces * _PIECE - part.shape[1]))
    batch = part.unflatten(1, (-1, _PIECE)).transpose(0, 1)
    total = torch.bmm(batch, batch.transpose(1, 2)).sum(dim=0, dtype=torch.float64)
    return (total + total.T) / 2


def _double_products(part: Tensor) -> Tensor:
    part = part.double()
    return part @ part.T


def _ordered_products(part: Tensor) -> Tensor:
    """Elementwise products, summed by folding halves: the same bits on every machine."""
    part = part.double()
    result = torch.empty(len(part), len(part), dtype=torch.float64, device=part.device)
    for i, row in enumerate(part):
        products = part[i:] * row
        while (width := products.shape[1]) > 1:
            half = width // 2
            products[:, :half] += products[:, width - half :]
            products = products[:, : width - half]
        result[i, i:] = result[i:, i] = products[:, 0]
    return result


def _join_clones(total: Tensor, rows: list[Tensor]) -> Tensor:
    """Give rows that are equal the inner products of the first of them.

    Float32 sums of K < 2048 products err by less than K 2^-24 |x||y| = 2^-13 |x||y|, so the
    computed squared distance of equal rows is below 2 · 2^-13 (|x|² + |y|²): no clone is missed.
    Candidates are then compared value by value, so near rows are never merged.
    """
    sizes = total.diagonal()
    near = squared_distances(total) <= _CLONE_FLOOR * (sizes[:, None] + sizes[None, :])
    if int(near.sum()) == len(total):  # only the diagonal
        return total
    vectors = [row for block in rows for row in block]
    original = list(range(len(vectors)))
    for i, j in near.tril(-1).nonzero().tolist():
        if original[i] == i and original[j] == j and torch.equal(vectors[i], vectors[j]):
            original[i] = j
    index = torch.tensor(original, device=total.device)
    return total[index][:, index]
