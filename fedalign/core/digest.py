"""SHA-256 of tensors, plain data and files, in one canonical form each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def of_tensor(tensor: Tensor) -> str:
    """Hex digest of dtype, shape and little-endian bytes; independent of device and strides."""
    array = tensor.detach().cpu().contiguous().numpy()
    head = f"{array.dtype.str}{list(array.shape)}".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()


def canonical(data: Any) -> str:
    """Plain data as JSON with sorted keys and no spaces; NaN and Infinity are refused."""
    return json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def of_data(data: Any) -> str:
    """Hex digest of plain data (numbers, strings, lists, mappings)."""
    return hashlib.sha256(canonical(data).encode()).hexdigest()


def of_files(files: Iterable[Path], root: Path) -> str:
    """Hex digest over names (relative to `root`) and contents, in sorted order."""
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(path.relative_to(root).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
