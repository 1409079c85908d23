"""None: one process holds the whole model, its gradients and its optimizer's states.

Source: own construction; what ZeRO's stages are compared with.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OneProcess:
    """The default; nothing to set."""
