"""Heap: what training frees is kept for the next step, not handed back to the kernel.

A step of a model with millions of parameters allocates and frees megabytes many times; by default
the C library maps and unmaps each block, and every fresh page costs a fault.
"""

from __future__ import annotations

import ctypes

_TRIM, _MAPPED = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
KEPT, LARGEST = 256 << 20, 32 << 20  # bytes; glibc allows no more than the latter


def keep() -> bool:
    """From now on, for this process; False where the C library is not glibc. Changes no number."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_TRIM, KEPT)) and bool(mallopt(_MAPPED, LARGEST))
