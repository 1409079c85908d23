"""Local SGD: what a client does with its data, and in which order.

Paper: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
AISTATS 2017, Algorithm 1 (ClientUpdate).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedalign.core.contracts import Work
from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class Sgd:
    """lr: > 0. batch_size: >= 1. momentum: 0 <= momentum < 1, inside one round (see
    algorithm=client_momentum for momentum across rounds). weight_decay: >= 0."""

    lr: float = 0.3
    batch_size: int = 32
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name, fine, range_ in (
            ("lr", self.lr > 0, "above 0"),
            ("batch_size", self.batch_size >= 1, "1 or more"),
            ("momentum", 0 <= self.momentum < 1, "at least 0 and below 1"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
        ):
            if not fine:
                raise ConfigError(f"workload.{name} must be {range_}, got {getattr(self, name)}.")


def batch_order(
    samples: int, work: Work, batch_size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Which samples each step takes: every epoch is one permutation, its last batch may be short.

    Returns indices (steps, width) padded with 0, and lengths (steps,); width is
    min(batch_size, samples).
    """
    width = min(batch_size, samples)
    per_epoch = -(-samples // width)
    epochs = work.epochs if work.steps is None else -(-work.steps // per_epoch)
    orders = np.zeros((epochs, per_epoch * width), dtype=np.int64)
    for epoch in range(epochs):
        orders[epoch, :samples] = rng.permutation(samples)
    lengths = np.full((epochs, per_epoch), width)
    lengths[:, -1] = samples - (per_epoch - 1) * width
    steps = work.steps if work.steps is not None else epochs * per_epoch
    return orders.reshape(-1, width)[:steps], lengths.reshape(-1)[:steps]
