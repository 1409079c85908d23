"""Clients one after the other through one re-used model: the path for any module."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedalign.core.contracts import Dataset, Gradient
from fedalign.training.flat import FlatModel
from fedalign.training.sgd import Sgd


def train(
    flat: FlatModel,
    start: Tensor,
    data: Dataset,
    order: Tensor,
    lengths: list[int],
    sgd: Sgd,
    correct: Gradient | None,
) -> tuple[Tensor, Tensor]:
    """One client. start: (d,). order: (steps, width) rows of `data`.

    Returns the trained vector (d,), which the next call overwrites, and the mean loss of its
    steps (scalar).
    """
    flat.load(start)
    plain = correct is None and not sgd.weight_decay and not sgd.momentum
    velocity = torch.zeros_like(start) if sgd.momentum else None
    total = torch.zeros((), device=start.device)
    for rows, length in zip(order, lengths, strict=True):
        rows = rows[:length]
        loss = cross_entropy(flat.module(data.inputs[rows]).float(), data.labels[rows])
        total += loss.detach()
        if plain:
            flat.step(loss, sgd.lr)
            continue
        flat.gradient.zero_()
        loss.backward()
        gradient = flat.gradient
        if correct is not None:
            gradient = correct(gradient[None], flat.vector[None], start[None])[0]
        if sgd.weight_decay:
            gradient = gradient.add(flat.vector, alpha=sgd.weight_decay)
        if velocity is not None:
            gradient = velocity.mul_(sgd.momentum).add_(gradient)
        flat.vector.sub_(gradient, alpha=sgd.lr)
    return flat.vector, total / max(len(lengths), 1)
