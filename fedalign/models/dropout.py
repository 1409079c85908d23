"""Dropout whose masks are addressed: the same for a client and round wherever it trains.

Paper: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
JMLR 2014, Section 4 (inverted: what is kept is scaled up in training, nothing happens in testing).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fedalign.core.errors import ConfigError
from fedalign.core.seeds import generator

_STEPS = 256  # a value is dropped where a random byte is below rate * 256


class Dropout(nn.Module):
    """rate: a multiple of 1/256 in [0, 1). `address` says whose masks come next; until it has
    been called the module cannot train."""

    def __init__(self, rate: float):
        super().__init__()
        self._limit = round(rate * _STEPS)
        if not 0 <= rate < 1 or self._limit != rate * _STEPS:
            raise ConfigError(f"A dropout rate is a multiple of 1/256 in [0, 1), got {rate}.")
        self._scale = 1.0 / (1.0 - rate)
        self._rng: np.random.Generator | None = None

    @property
    def draws(self) -> bool:
        """Whether training needs masks at all."""
        return self._limit > 0

    def address(self, key: bytes) -> None:
        """Masks from now on are those of `key` (>= 16 bytes), in order."""
        self._rng = generator(key)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.draws:
            return x
        if self._rng is None:
            raise ConfigError("A model with dropout trains client by client: take batching=loop.")
        drawn = np.frombuffer(self._rng.bytes(x.numel()), np.uint8)
        kept = (torch.from_numpy(drawn >= self._limit)).view(x.shape)
        return x * (kept.to(x.device, x.dtype) * self._scale)
