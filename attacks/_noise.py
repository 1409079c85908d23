"""Random rows drawn from the generator handed in, in the dtype and on the device of the rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def normal(rng: np.random.Generator, like: Tensor) -> Tensor:
    """Standard normal values in the shape of `like`."""
    kind = np.float64 if like.dtype == torch.float64 else np.float32
    return torch.from_numpy(rng.standard_normal(tuple(like.shape), dtype=kind)).to(like)


def uniform(rng: np.random.Generator, like: Tensor) -> Tensor:
    """Values uniform in [0, 1) in the shape of `like`."""
    kind = np.float64 if like.dtype == torch.float64 else np.float32
    return torch.from_numpy(rng.random(tuple(like.shape), dtype=kind)).to(like)


def signs(rng: np.random.Generator, like: Tensor) -> Tensor:
    """Fair +1 / -1 in the shape of `like`."""
    drawn = rng.integers(0, 2, tuple(like.shape), dtype=np.int8)
    return torch.from_numpy(drawn).to(like).mul_(2).sub_(1)
