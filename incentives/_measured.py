"""Measured pay: what payment rules share that value coalitions of accepted clients.

A vetoed client does not enter the aggregate: it adds nothing to any coalition, so its value is 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedalign.core.market import Outcome, Payments
from incentives._settlement import divide
from incentives._worth import Measure, worth_of
from incentives.payments.coalitions import Worth


def settle_measured(
    outcome: Outcome,
    values: Callable[[Worth, int], np.ndarray],
    budget: int,
    measure: Measure,
    history: float,
) -> Payments:
    """The budget in proportion to c_t = value_t + history c_(t-1), negative ones clipped at 0.

    values: (worth, n) -> (n,) of this round. history: 0 pays each round for itself, 1 for all
    rounds so far. Where nobody has contributed nobody is paid.
    """
    clients = outcome.updates.clients.tolist()
    players = outcome.aggregate.accepted.nonzero()[:, 0].tolist()
    before = outcome.memory.get("contributions", {})
    now = {client: history * before.get(client, 0.0) for client in clients}
    if players:
        worth = worth_of(outcome, players, measure, outcome.evaluate)
        for place, value in zip(players, values(worth, len(players)).tolist(), strict=True):
            now[clients[place]] += value
    memory = {"contributions": {**before, **now}} if history else {}
    entitled = [now[clients[place]] for place in players]
    fund = budget if any(value > 0 for value in entitled) else 0
    return divide(outcome, list(now.values()), fund, "redistribute", memory)
