"""The two moments of an incentive in a round: prices before training, payments after."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from fedalign.core import market
from fedalign.core.contracts import Memory, State
from fedalign.core.market import Market, Offer, Payments
from fedalign.core.seeds import derive
from fedalign.federation.parts import Federation, Outcome


def announce(parts: Federation, state: State, members: Sequence[int]) -> Offer:
    """Prices, and what each client makes of them."""
    samples = [parts.workload.clients[client].samples for client in members]
    offered = Market(
        round=state.round + 1,
        clients=torch.tensor(members),
        samples=torch.tensor(samples),
        work=parts.work,
        seeds=parts.seeds,
        memory=state.memory.get("incentive", {}),
    )
    return parts.incentive.announce(offered)


def settle(parts: Federation, state: State, outcome: Outcome) -> Payments:
    """Who is paid what for this round."""
    needs, evaluate, audit = parts.incentive.needs, None, None
    if "evaluate" in needs:
        evaluate = parts.on_the_servers_split()
    if "audit" in needs:
        audit = partial(parts.workload.evaluate, split="test")
    return parts.incentive.settle(
        market.Outcome(
            round=state.round + 1,
            offer=outcome.offer,
            updates=outcome.updates,
            aggregate=outcome.aggregate,
            model=state.model,
            evaluate=evaluate,
            audit=audit,
            rng=derive(parts.secret, "payments", state.round + 1),
            memory=outcome.offer.memory,
        )
    )


def paid(payments: Payments) -> Memory:
    """What the next block seals of a round's payments."""
    names = ("accounts", "amounts", "total")
    return {name: getattr(payments, name) for name in names}
