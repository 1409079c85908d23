"""Determinism on GPUs: only algorithms that give the same bits every time, in this process."""

from __future__ import annotations

import os

import torch


def fix(device: str, wanted: bool) -> bool:
    """Before the first use of a GPU: deterministic kernels, no search for the fastest one, no
    TF32; an operation that has no deterministic kernel raises. A processor needs none of it.
    device: a torch device. Returns whether anything was set."""
    if not wanted or not device.startswith("cuda"):
        return False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return True
