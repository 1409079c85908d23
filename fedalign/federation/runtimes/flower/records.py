"""ArrayRecords as one vector: floating-point arrays by sorted name; all others are left alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedalign.core.vectors import Layout


def layout(record: Mapping[str, Any]) -> Layout:
    """Where the floating-point arrays of an ArrayRecord lie in the vector."""
    return Layout.of({name: array.shape for name, array in record.items() if _floating(array)})


def flatten(record: Mapping[str, Any]) -> Tensor:
    """An ArrayRecord -> (d,) float32."""
    names = sorted(name for name, array in record.items() if _floating(array))
    parts = [np.asarray(record[name].numpy(), np.float32).reshape(-1) for name in names]
    return torch.from_numpy(np.concatenate(parts) if parts else np.zeros(0, np.float32))


def filled(record: Mapping[str, Any], vector: Tensor) -> Any:
    """A record with the names, order, shapes and types of `record` and the values of (d,)."""
    parts = layout(record).views(vector.detach().cpu().float())
    arrays = {}
    for name, array in record.items():
        if name in parts:
            values = parts[name].contiguous().numpy().astype(np.dtype(array.dtype))
            arrays[name] = type(array)(values)
        else:
            arrays[name] = array
    return type(record)(arrays)


def alike(record: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Same names, shapes and types."""
    return set(record) == set(other) and all(
        (tuple(a.shape), a.dtype) == (tuple(other[name].shape), other[name].dtype)
        for name, a in record.items()
    )


def _floating(array: Any) -> bool:
    return np.issubdtype(np.dtype(array.dtype), np.floating)
