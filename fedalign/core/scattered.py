"""Scattered: a linear combination of vectors that do not lie in one matrix.

`fedalign.core.vectors.combine` reads the rows of one matrix; here every vector may live elsewhere
(rows of this round, rows kept from earlier ones, models), and none is copied together first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fedalign.core.vectors import blank, chunks, plain

CHUNK = 32_768  # columns worked on at a time: their float64 sums and eight rows stay cached


def combine_scattered(terms: Sequence[tuple[float, Tensor]]) -> Tensor:
    """sum_i c_i x_i over (c_i, x_i (d,)), added up in float64 in the order of the terms.

    At least one term; all vectors of one length, dtype and device, which the result (d,) shares.
    Terms with coefficient 0 are not read. Float64 vectors are added one by one, without BLAS.
    """
    result = blank(1, terms[0][1][None])[0]
    read = [(float(c), x) for c, x in terms if c != 0.0]
    if not read:
        return result.zero_()
    if plain(*(x for _, x in read)):
        _compiled(read, result.numpy())
    else:
        _in_order(read, result)
    return result


def _compiled(terms: Sequence[tuple[float, Tensor]], result: np.ndarray) -> None:
    from fedalign.core.compiled_scattered import add_eight, add_four

    padded, groups = [*terms, *[(0.0, terms[-1][1])] * (-len(terms) % 4)], []
    while padded:
        width = min(len(padded), 8)
        group, padded = padded[:width], padded[width:]
        weights = np.array([c for c, _ in group])
        vectors = [x.detach().numpy() for _, x in group]
        groups.append((add_eight if width == 8 else add_four, weights, vectors))
    total = np.empty(CHUNK)
    for span in chunks(len(result), CHUNK):
        total[:] = 0
        for add, weights, vectors in groups:
            add(weights, *vectors, span.start, span.stop, total)
        result[span] = total[: span.stop - span.start]


def _in_order(terms: Sequence[tuple[float, Tensor]], result: Tensor) -> None:
    for span in chunks(len(result)):
        total = torch.zeros(span.stop - span.start, dtype=torch.float64, device=result.device)
        for c, x in terms:
            total.add_(x[span].double(), alpha=c)
        result[span] = total
