"""Settlement: amounts for the rows that arrived become payments; who was vetoed earns nothing.

A client whose row never arrived, or held NaN, is not among them and earns nothing either.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

from fedalign.core.contracts import Memory
from fedalign.core.market import Outcome, Payments
from incentives.payments.largest_remainder import largest_remainder
from incentives.payments.shares import proportional

Amount = float | Fraction
Vetoed = Literal["redistribute", "return"]
VETOED = ("redistribute", "return")


def settle(
    outcome: Outcome,
    amounts: Sequence[Amount],
    contributions: Sequence[float] = (),
    memory: Memory | None = None,
) -> Payments:
    """amounts: (n,) base units for the rows of the outcome; those of vetoed rows stay with the
    payer."""
    accepted = outcome.aggregate.accepted.tolist()
    clients = outcome.updates.clients.tolist()
    earned = [a if kept else 0 for a, kept in zip(amounts, accepted, strict=True)]
    units = largest_remainder(earned, clients)
    notes: dict[str, Any] = {"vetoed": len(accepted) - sum(accepted)}
    contributions = [float(c) for c in contributions]
    return Payments(clients, units, sum(units), contributions, memory or {}, notes)


def divide(
    outcome: Outcome,
    contributions: Sequence[float],
    budget: int,
    vetoed: Vetoed,
    memory: Memory | None = None,
) -> Payments:
    """A budget in proportion to contributions (n,). vetoed: redistribute divides it among the
    accepted alone, return divides it among all and keeps the shares of the vetoed."""
    accepted = outcome.aggregate.accepted.tolist()
    entitled = [i for i, kept in enumerate(accepted) if kept or vetoed == "return"]
    shares = proportional([float(contributions[i]) for i in entitled], budget)
    amounts: list[Amount] = [0] * len(accepted)
    for i, share in zip(entitled, shares, strict=True):
        amounts[i] = share
    return settle(outcome, amounts, contributions, memory)
