"""Gauge: one low-rank update, many pairs of factors; comparing updates rather than factors.

B A stays the same when columns of B and rows of A are turned together, (B Q)(Q^T A). Rows hold
changes of factors: A_i = A_0 + dA_i and B_i = B_0 + dB_i, with A_0 and B_0 from the model.

Source: own derivation, on the factors of Hu et al., "LoRA: Low-Rank Adaptation of Large Language
Models", ICLR 2022; alignment by Schoenemann, "A Generalized Solution of the Orthogonal Procrustes
Problem", Psychometrika 1966.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedalign.core.vectors import Layout, Part


@dataclass(frozen=True)
class Factors:
    """a: A, (r, d_in). b: B, (d_out, r)."""

    a: Part
    b: Part


def factors(layout: Layout) -> list[Factors]:
    """The pairs of LoRA factors in a layout, by their names `...lora_A...` and `...lora_B...`."""
    named = {part.name: part for part in layout.parts if len(part.shape) == 2}
    pairs = [
        (part, named.get(name.replace("lora_A", "lora_B")))
        for name, part in named.items()
        if "lora_A" in name
    ]
    return [Factors(a, b) for a, b in pairs if b is not None and a.shape[0] == b.shape[1]]


def product_gram(rows: Tensor, model: Tensor, layout: Layout) -> Tensor:
    """(n, n) float64, inner products of what the rows (n, d) add to the weights, B_i A_i - B_0 A_0,
    and of all other columns as they are. model: (d,).

    B_i A_i - B_0 A_0 = [dB_i, B_0] [A_i; dA_i], so that nothing large cancels, and the inner
    product of two such is a sum over 2 r x 2 r numbers.
    """
    n, pairs = len(rows), factors(layout)
    free = torch.ones(layout.size, dtype=torch.bool, device=rows.device)
    total = torch.zeros(n, n, dtype=torch.float64, device=rows.device)
    for pair in pairs:
        free[pair.a.span] = free[pair.b.span] = False
        (da, a0), (db, b0) = (_read(rows, model, part) for part in (pair.a, pair.b))
        left = torch.cat([db, b0.expand_as(db)], dim=2).mT.flatten(0, 1)  # (n 2r, d_out)
        right = torch.cat([a0 + da, da], dim=1).flatten(0, 1)  # (n 2r, d_in)
        blocks = ((left @ left.T) * (right @ right.T)).view(n, -1, n, 2 * pair.a.shape[0])
        total += blocks.sum(dim=(1, 3))
    rest = rows[:, free].double()
    return total + rest @ rest.T


def aligned(rows: Tensor, model: Tensor, layout: Layout) -> Tensor:
    """(n, d), the same updates in the gauge next to the model's: every pair of factors turned by
    the orthogonal Q that brings (B_i Q, Q^T A_i) closest to (B_0, A_0)."""

    def closest(a: Tensor, b: Tensor, a0: Tensor, b0: Tensor) -> Tensor:
        u, _, v = torch.linalg.svd(b.mT @ b0 + a @ a0.mT)
        return u @ v

    return turned(rows, model, layout, closest)


def turned(
    rows: Tensor, model: Tensor, layout: Layout, turn: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
) -> Tensor:  # fmt: skip
    """(n, d) with every pair of factors turned. turn: (A (n, r, d_in), B (n, d_out, r), A_0, B_0)
    -> Q (n, r, r), orthogonal."""
    result = rows.clone()
    for pair in factors(layout):
        (da, a0), (db, b0) = (_read(rows, model, part) for part in (pair.a, pair.b))
        a, b = a0 + da, b0 + db
        q = turn(a, b, a0, b0)
        result[:, pair.a.span] = (q.mT @ a - a0).flatten(1).to(rows.dtype)
        result[:, pair.b.span] = (b @ q - b0).flatten(1).to(rows.dtype)
    return result


def points(gram: Tensor) -> Tensor:
    """(n, n) inner products -> (n, n) float64 rows that have them; signs are fixed by the largest
    value of each direction."""
    values, vectors = torch.linalg.eigh((gram + gram.T) / 2)
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    return vectors * largest.sign() * values.clamp(min=0).sqrt()


def _read(rows: Tensor, model: Tensor, part: Part) -> Sequence[Tensor]:
    """Changes (n, *shape) and start (*shape) of one factor, float64."""
    change = rows[:, part.span].double().view(len(rows), *part.shape)
    return change, model[part.span].double().view(part.shape)
