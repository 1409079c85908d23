"""Memories on disk: nested mappings as one safetensors file, never a pickle.

Tensors are written one after the other, and a large file is mapped when it is read: a memory that
lives on disk is kept and continued without ever being in memory as a whole.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor

from fedalign.core.errors import IntegrityError

MAPPED = 1 << 28  # a file of that many bytes is mapped, not read
DTYPES = {
    torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.int32: "I32",
    torch.float16: "F16", torch.bfloat16: "BF16", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def write(path: Path, memory: Mapping[str, Any], durable: bool = False) -> None:
    """Write aside, then rename; `durable` also forces it to disk."""
    tensors: dict[str, Tensor] = {}
    tree = _split(memory, tensors)
    aside = path.with_name(f".{path.name}.tmp")
    with open(aside, "wb") as file:
        _stream(file, tensors, {"tree": json.dumps(tree)})
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(aside, path)


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote. Raises IntegrityError where the file is damaged."""
    try:
        with open(path, "rb") as file:
            size = min(int.from_bytes(file.read(8), "little"), path.stat().st_size)
            header = json.loads(file.read(size))
        large = path.stat().st_size >= MAPPED
        tensors = load_file(path) if large else load(path.read_bytes())
        return _join(json.loads(header["__metadata__"]["tree"]), tensors)
    except (ValueError, KeyError, OverflowError, TypeError, SafetensorError) as error:
        raise IntegrityError(
            f"{path} is damaged or was not written by fedalign: {error}."
        ) from error


def _stream(file: IO[bytes], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """The safetensors format: length of the header, header, data; the widest numbers first, so
    that all are aligned."""
    order = sorted(tensors, key=lambda name: -tensors[name].element_size())
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in order:
        tensor, begin = tensors[name], end
        end += tensor.nbytes
        header[name] = {
            "dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]
        }  # fmt: skip
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        flat = tensors[name].cpu().contiguous().reshape(-1)
        file.write(flat.view(torch.uint8).numpy().data)


def _split(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        if value.dtype not in DTYPES:
            raise TypeError(f"A memory may hold tensors of real numbers, not of {value.dtype}.")
        name = str(len(tensors))
        tensors[name] = value.detach()
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
