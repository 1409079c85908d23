"""A block of clients trained at once: every step is one batched forward and backward pass.

Clients do not share parameters, so the gradient of the summed loss holds each client's own
gradient. Ragged clients are masked: a padded sample weighs nothing, a client that has finished
leaves the batch. Faster than the loop while models are small; see experiments/benchmarks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy

from fedalign.core.contracts import Dataset, Gradient
from fedalign.training.flat import FlatModel
from fedalign.training.sgd import Sgd


def train(
    flat: FlatModel,
    start: Tensor,
    data: Dataset,
    order: Tensor,
    lengths: Tensor,
    sgd: Sgd,
    correct: Gradient | None,
) -> tuple[Tensor, Tensor]:
    """k clients. start: (k, d). order: (k, steps, width) rows of `data`; lengths: (k, steps),
    0 where a client has finished. Returns vectors (k, d) and mean losses (k,)."""
    busy = (lengths > 0).sum(dim=1)  # steps per client, (k,)
    ranking = busy.argsort(descending=True, stable=True)
    vectors = start[ranking]
    velocity = torch.zeros_like(start) if sgd.momentum else None
    total = torch.zeros(len(start), device=start.device)
    order, lengths, origin = order[ranking], lengths[ranking], start[ranking]
    for step in range(order.shape[1]):
        count = int((lengths[:, step] > 0).sum())  # the others have finished
        if count == 0:
            break
        active = vectors[:count]
        gradient, losses = _gradients(
            flat, active, data, order[:count, step], lengths[:count, step]
        )
        total[:count] += losses
        if correct is not None:
            gradient = correct(gradient, active, origin[:count])
        if sgd.weight_decay:
            gradient = gradient.add(active, alpha=sgd.weight_decay)
        if velocity is not None:
            gradient = velocity[:count].mul_(sgd.momentum).add_(gradient)
        active.sub_(gradient, alpha=sgd.lr)
    back = ranking.argsort()
    return vectors[back], total[back] / busy.clamp(min=1)


def _gradients(
    flat: FlatModel, vectors: Tensor, data: Dataset, rows: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """vectors: (k, d), rows: (k, width), lengths: (k,) -> gradients (k, d), mean losses (k,)."""
    leaves = {
        name: view.detach().requires_grad_() for name, view in flat.layout.views(vectors).items()
    }
    forward = vmap(
        lambda parameters, x: functional_call(flat.module, parameters, (x,), tie_weights=False)
    )
    logits = forward(leaves, data.inputs[rows]).float()  # (k, width, classes)
    labels = data.labels[rows].flatten()
    items = cross_entropy(logits.flatten(0, 1), labels, reduction="none").view(rows.shape)
    inside = torch.arange(rows.shape[1], device=rows.device) < lengths[:, None]
    losses = (items * inside).sum(dim=1) / lengths
    gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
    return torch.cat([gradient.flatten(1) for gradient in gradients], dim=1), losses.detach()
