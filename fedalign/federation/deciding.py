"""The rule's decision, and what happens where it cannot be made."""

from __future__ import annotations

import torch
from torch import Tensor

from fedalign.core.agreement import Consensus, Sealed, Verdict
from fedalign.core.contracts import Aggregate, Context, Defense, Updates
from fedalign.core.errors import ToleranceError


def decide(rule: Defense, rows: Tensor, context: Context) -> Aggregate:
    """The rule's decision; a round that nobody survives, or that falls below the rule's
    condition because rows were lost, keeps the previous model."""
    if len(rows) == 0 and not rule.estimates:
        return _nobody(rows, context, "no usable row arrived")
    try:
        return rule(rows, context)
    except ToleranceError as error:
        return _nobody(rows, context, str(error))


def agree(
    consensus: Consensus,
    rule: Defense,
    proposals: Updates,
    context: Context,
    sealed: Sealed,
    whole: bool = True,
) -> Verdict:
    """The servers' verdict; a round in which no edge has anything is not put to the vote. whole:
    all proposals are known here. Raises QuorumLostError."""
    rows = proposals.rows
    if whole and len(rows) == 0 and not rule.estimates:
        return Verdict(_nobody(rows, context, "no edge had a model"), "skipped")
    try:
        return consensus.agree(proposals, rule, context, sealed)
    except ToleranceError as error:
        return Verdict(_nobody(rows, context, str(error)), "skipped")


def _nobody(rows: Tensor, context: Context, why: str) -> Aggregate:
    return Aggregate(
        torch.zeros_like(context.model),
        torch.zeros(len(rows), dtype=torch.bool),
        skipped=True,
        memory=context.memory,
        notes={"skipped": why},
    )
