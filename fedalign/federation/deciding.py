"""The rule's decision, and what happens where it cannot be made."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.errors import ToleranceError


def decide(rule: Defense, rows: Tensor, context: Context) -> Aggregate:
    """The rule's decision; a round that nobody survives, or that falls below the rule's
    condition because rows were lost, keeps the previous model."""
    nobody = Aggregate(
        torch.zeros_like(context.model),
        torch.zeros(len(rows), dtype=torch.bool),
        skipped=True,
        memory=context.memory,
    )
    if len(rows) == 0 and not rule.estimates:
        return replace(nobody, notes={"skipped": "no usable row arrived"})
    try:
        return rule(rows, context)
    except ToleranceError as error:
        return replace(nobody, notes={"skipped": str(error)})
