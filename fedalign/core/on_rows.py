"""Run a wrapped rule on some of the rows and report about all of them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense


def on_rows(rule: Defense, updates: Tensor, keep: Tensor, context: Context) -> Aggregate:
    """`rule` on `updates[keep]`, its decisions in the numbering of all rows.

    keep: (n,) bool. context: the wrapper's; the rule's memory lives in it under "rule". Rows left
    out are rejected, with coefficient and score 0. Nobody left: skipped, the memory stays.
    """
    if not bool(keep.any()):
        return Aggregate.skip(updates, memory=dict(context.memory))
    if bool(keep.all()):  # nothing to cut, nothing to copy
        result = rule(updates, context.inner("rule"))
        return replace(result, memory={"rule": result.memory})
    result = rule(updates[keep], context.inner("rule").rows(keep))
    return replace(
        result,
        accepted=_spread(result.accepted, keep),
        coefficients=_spread(result.coefficients, keep),
        scores=_spread(result.scores, keep),
        memory={"rule": result.memory},
    )


def _spread(values: Tensor | None, keep: Tensor) -> Tensor | None:
    if values is None:
        return None
    full = torch.zeros(len(keep), dtype=values.dtype, device=values.device)
    full[keep.to(values.device)] = values
    return full
