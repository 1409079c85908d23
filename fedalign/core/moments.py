"""Moments: squared norms of n vectors and their inner products with one more, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from fedalign.core.vectors import chunks, plain


def moments(
    updates: Tensor, reference: Tensor | None = None, shift: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One pass over the rows x_i = updates_i + shift: (|x_i|^2, <x_i, reference>), both (n,).

    updates: (n, d). shift: (d,), the model where a rule looks at models. Without a reference the
    inner products are 0. Sums and products are float64, whatever the dtype of the rows.
    """
    squares = torch.zeros(len(updates), dtype=torch.float64, device=updates.device)
    inner = torch.zeros_like(squares)
    if plain(updates, reference, shift):
        from fedalign.core import compiled

        arrays = (None if x is None else x.detach().numpy() for x in (updates, reference, shift))
        compiled.moments(*arrays, squares.numpy(), inner.numpy())
        return squares, inner
    for span in chunks(updates.shape[1], 16_384):
        part = updates[:, span].to(torch.float64, copy=shift is not None)
        if shift is not None:
            part += shift[span]  # on the copy
        if reference is not None:
            inner += part @ reference[span].double()
        squares += torch.linalg.vecdot(part, part)
    return squares, inner
