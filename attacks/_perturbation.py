"""Crafted rows mean + gamma p: the direction p and the inner products Min-Max and Min-Sum need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks._rows import clones, deviation, mean
from fedalign.core.gram import gram, squared_distances
from fedalign.core.threat import Crafted, View

DIRECTIONS = ("unit", "std", "sign")


@dataclass(frozen=True)
class Perturbation:
    """mean: (d,). step: p (d,). square: |p|^2. lean: <mean - x_i, p>, (b,). from_mean:
    |mean - x_i|^2, (b,). pairwise: (b, b) squared distances among the benign rows."""

    mean: Tensor
    step: Tensor
    square: float
    lean: Tensor
    from_mean: Tensor
    pairwise: Tensor

    @staticmethod
    def of(rows: Tensor, direction: str) -> Perturbation:
        """All inner products from one Gram pass around the mean; p against the benign mean."""
        centre = mean(rows)
        step = direction_of(rows, centre, direction)
        inner = gram(rows, step + centre, origin=centre)
        return Perturbation(
            mean=centre,
            step=step,
            square=float(inner[-1, -1]),
            lean=-inner[-1, :-1],
            from_mean=inner.diagonal()[:-1],
            pairwise=squared_distances(inner[:-1, :-1]),
        )

    def crafted(self, gamma: float, view: View) -> Crafted:
        """All m attackers send mean + gamma p."""
        row = torch.add(self.mean, self.step, alpha=gamma)
        return Crafted(clones(row, len(view.own)), notes={"gamma": gamma})


def direction_of(rows: Tensor, centre: Tensor, direction: str) -> Tensor:
    """p: -mean/|mean| (unit), -standard deviation (std) or -sign(mean) (sign)."""
    if direction == "std":
        return -deviation(rows)
    if direction == "sign":
        return -centre.sign()
    length = float(centre.double().norm())
    return -centre / length if length > 0 else torch.zeros_like(centre)


def published_search(rows: Tensor, mean: Tensor, step: Tensor, fits) -> float:
    """The halving search as published: start at 10, stop at 1e-5, one pass over all rows a step.

    fits: squared distances (b,) from the trial to every benign row -> bool.
    """
    gamma, stride, best = 10.0, 10.0, 0.0
    while abs(best - gamma) > 1e-5:
        trial = mean + gamma * step
        distances = torch.linalg.vector_norm(rows - trial, dim=1).square()
        stride /= 2
        if fits(distances):
            best, gamma = gamma, gamma + stride
        else:
            gamma -= stride
    return best


def published_distances(rows: Tensor) -> Tensor:
    """Squared distances (b, b), one pass over all rows for each row, as published."""
    return torch.stack([torch.linalg.vector_norm(rows - row, dim=1).square() for row in rows])
