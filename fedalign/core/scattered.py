"""Scattered: a linear combination of vectors that do not lie in one matrix.

`fedalign.core.vectors.combine` reads the rows of one matrix; here every vector may live elsewhere
(rows of this round, rows kept from earlier ones, models), and none is copied together first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from fedalign.core.vectors import blank, chunks, plain

CHUNK = 32_768  # columns worked on at a time: their float64 sums and eight rows stay cached


Terms = Sequence[tuple[float, Tensor]]


def combine_scattered(terms: Terms) -> Tensor:
    """sum_i c_i x_i over (c_i, x_i (d,)), added up in float64 in the order of the terms.

    At least one term; all vectors of one length, dtype and device, which the result (d,) shares.
    Terms with coefficient 0 are not read. Float64 vectors are added one by one, without BLAS.
    """
    result = blank(1, terms[0][1][None])[0]
    for span, total in _totals(terms):
        result[span] = total
    return result


def norm_scattered(terms: Terms) -> float:
    """The Euclidean norm of the same combination, which is nowhere written down as a whole."""
    return sum(float(total.square().sum()) for _, total in _totals(terms)) ** 0.5


def _totals(terms: Terms) -> Iterator[tuple[slice, Tensor]]:
    """The combination in float64, columns by columns; each is good until the next one is asked."""
    read = [(float(c), x) for c, x in terms if c != 0.0]
    size, device = len(terms[0][1]), terms[0][1].device
    add = _compiled(read) if read and plain(*(x for _, x in read)) else _in_order(read)
    buffer = torch.empty(min(CHUNK, size), dtype=torch.float64, device=device)
    for span in chunks(size, CHUNK):
        total = buffer[: span.stop - span.start].zero_()
        add(span, total)
        yield span, total


def _compiled(terms: Terms) -> Callable[[slice, Tensor], None]:
    from fedalign.core.compiled_scattered import add_eight, add_four

    padded, groups = [*terms, *[(0.0, terms[-1][1])] * (-len(terms) % 4)], []
    while padded:
        width = min(len(padded), 8)
        group, padded = padded[:width], padded[width:]
        weights = np.array([c for c, _ in group])
        vectors = [x.detach().numpy() for _, x in group]
        groups.append((add_eight if width == 8 else add_four, weights, vectors))

    def add_all(span: slice, total: Tensor) -> None:
        for add, weights, vectors in groups:
            add(weights, *vectors, span.start, span.stop, total.numpy())

    return add_all


def _in_order(terms: Terms) -> Callable[[slice, Tensor], None]:
    def add_all(span: slice, total: Tensor) -> None:
        for c, x in terms:
            total.add_(x[span].double(), alpha=c)

    return add_all
