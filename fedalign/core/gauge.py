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

from fedalign.core.vectors import Layout, Part, combine


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
    return turned(rows, model, layout, _procrustes)


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


def cross_term(rows: Tensor, model: Tensor, weights: Tensor, layout: Layout) -> float:
    """|| sum w_i B_i A_i - (sum w_i B_i)(sum w_i A_i) || / || sum w_i B_i A_i ||, Frobenius norms
    over all pairs of factors: what averaging factors misses of averaging products. weights: (n,),
    taken relative to their sum. 0 for equal A_i; NaN where there are no factors."""
    shares = (weights.double() / weights.double().sum()).to(rows.device)
    missed, whole = 0.0, 0.0
    for pair in factors(layout):
        left, right = _side_by_side(rows, model, shares, pair)
        parts = (len(rows), pair.a.shape[0])
        mean_b = left.unflatten(1, parts).sum(dim=1)
        mean_a = (right.unflatten(0, parts) * shares[:, None, None]).sum(dim=0)
        whole += _squares(left, right)
        missed += _squares(torch.cat([left, -mean_b], dim=1), torch.cat([right, mean_a]))
    return (max(missed, 0.0) / whole) ** 0.5 if whole > 0 else float("nan")


def merged(rows: Tensor, model: Tensor, coefficients: Tensor, layout: Layout) -> Tensor:
    """(d,), the update after which every B A is the closest of its rank r to B_0 A_0 + sum_i c_i
    (B_i A_i - B_0 A_0), A as long as A_0 and turned next to it; all other columns combined as they
    are."""
    result = combine(coefficients, rows)
    c = coefficients.to(rows.device).double()
    for pair in factors(layout):
        left, right = _side_by_side(rows, model, c, pair)
        a0, b0 = (_read(rows, model, part)[1] for part in (pair.a, pair.b))
        left = torch.cat([left, (1 - c.sum()) * b0], dim=1)
        a, b = _closest(left, torch.cat([right, a0]), len(a0))
        length = float(a0.norm()) / len(a0) ** 0.5 or 1.0  # of A_0's rows: gradients stay large
        a, b = length * a, b / length
        q = _procrustes(a, b, a0, b0)
        result[pair.a.span] = (q.mT @ a - a0).flatten().to(rows.dtype)
        result[pair.b.span] = (b @ q - b0).flatten().to(rows.dtype)
    return result


def _closest(left: Tensor, right: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A (r, d_in), rows of length 1, and B (d_out, r), of the product nearest to left @ right,
    Eckart-Young; without the large product itself."""
    (q, over), (p, under) = torch.linalg.qr(left), torch.linalg.qr(right.mT)
    u, s, v = torch.linalg.svd(over @ under.mT, full_matrices=False)
    count = min(rank, len(s))
    a, b = right.new_zeros(rank, right.shape[1]), left.new_zeros(len(left), rank)
    a[:count], b[:, :count] = v[:count] @ p.mT, q @ u[:, :count] * s[:count]
    return a, b


def _procrustes(a: Tensor, b: Tensor, a0: Tensor, b0: Tensor) -> Tensor:
    """(..., r, r), the orthogonal Q that brings (B Q, Q^T A) closest to (B_0, A_0)."""
    u, _, v = torch.linalg.svd(b.mT @ b0 + a @ a0.mT)
    return u @ v


def _side_by_side(
    rows: Tensor, model: Tensor, weights: Tensor, pair: Factors
) -> tuple[Tensor, Tensor]:
    """(d_out, n r) and (n r, d_in), float64, whose product is sum w_i B_i A_i."""
    (da, a0), (db, b0) = (_read(rows, model, part) for part in (pair.a, pair.b))
    left = (weights[:, None, None] * (b0 + db)).permute(1, 0, 2).flatten(1)
    return left, (a0 + da).flatten(0, 1)


def _squares(left: Tensor, right: Tensor) -> float:
    """|| left @ right ||^2, by whichever product is smaller."""
    if left.shape[1] < min(left.shape[0], right.shape[1]):
        return float(((left.mT @ left) * (right @ right.mT)).sum())
    return float((left @ right).square().sum())


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
