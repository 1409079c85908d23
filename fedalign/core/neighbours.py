"""Neighbours: who lies close to whom, from a matrix of squared distances.

Paper: Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
NeurIPS 2017, Section 4.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Neighbours = Literal["n-f-2", "n-f-1", "n-f"]  # the paper and Flower; ByzFL; some reproductions
NEIGHBOURS: dict[str, int] = {"n-f-2": 2, "n-f-1": 1, "n-f": 0}


def neighbour_count(convention: Neighbours, clients: int, byzantine: int) -> int:
    """How many neighbours a Krum score adds up: at least one, at most all others."""
    return min(max(clients - byzantine - NEIGHBOURS[convention], 1), max(clients - 1, 0))


def krum_scores(squared: Tensor, count: int) -> Tensor:
    """(n, n) squared distances -> (n,): sum over each row's `count` nearest others."""
    others = squared.clone().fill_diagonal_(-1.0)  # a client is not its own neighbour: sorts first
    return others.sort(dim=1).values[:, 1 : count + 1].sum(dim=1)


def nearest(squared: Tensor, count: int) -> Tensor:
    """(n, n) squared distances -> (n, n) bool: row i marks its `count` nearest, itself included.

    Ties go to the lowest index.
    """
    ranked = squared.clone().fill_diagonal_(-1.0).sort(dim=1, stable=True).indices[:, :count]
    return torch.zeros_like(squared, dtype=torch.bool).scatter_(1, ranked, True)
