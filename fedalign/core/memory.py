"""Memories on disk: nested mappings as one safetensors file, never a pickle."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from fedalign.core.errors import IntegrityError


def write(path: Path, memory: Mapping[str, Any], durable: bool = False) -> None:
    """Write aside, then rename; `durable` also forces it to disk."""
    tensors: dict[str, Tensor] = {}
    tree = _split(memory, tensors)
    raw = save(tensors, metadata={"tree": json.dumps(tree)})
    aside = path.with_name(f".{path.name}.tmp")
    with open(aside, "wb") as file:
        file.write(raw)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(aside, path)


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote."""
    raw = path.read_bytes()
    try:
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        return _join(json.loads(header["__metadata__"]["tree"]), load(raw))
    except (ValueError, KeyError, OverflowError) as error:
        raise IntegrityError(
            f"{path} is damaged or was not written by fedalign: {error}."
        ) from error


def _split(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, Mapping):
        items = [[_key(key), _split(item, tensors)] for key, item in value.items()]
        return {"mapping": items}
    if isinstance(value, list | tuple):
        return {"list": [_split(item, tensors) for item in value]}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if value is None or isinstance(value, bool | int | float | str):
        return {"plain": value}
    raise TypeError(
        f"A memory may hold tensors, numbers, text and bytes, not {type(value).__name__}."
    )


def _key(key: Any) -> Any:
    if isinstance(key, int | str):
        return key
    raise TypeError(f"A memory's keys are texts or integers, not {type(key).__name__}.")


def _join(tree: dict[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    ((kind, value),) = tree.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "mapping":
        return {key: _join(item, tensors) for key, item in value}
    if kind == "list":
        return [_join(item, tensors) for item in value]
    return base64.b64decode(value) if kind == "bytes" else value


def to(memory: Any, device: torch.device) -> Any:
    """The same memory with its tensors on `device`."""
    if isinstance(memory, Tensor):
        return memory.to(device)
    if isinstance(memory, Mapping):
        return {key: to(item, device) for key, item in memory.items()}
    if isinstance(memory, list | tuple):
        return [to(item, device) for item in memory]
    return memory
