"""Small markets and outcomes for tests: numbers chosen by hand."""

from dataclasses import replace

import numpy as np
import torch

from fedalign.core.contracts import Aggregate, Updates, Work
from fedalign.core.market import Market, Offer, Outcome
from fedalign.core.seeds import Seeds


def market(clients, samples=10, work=None, seed=0, memory=None, round=1) -> Market:
    """clients: ids. samples: one for each, or one for all."""
    ids = torch.as_tensor(list(clients))
    held = torch.as_tensor(samples).expand(len(ids)).clone()
    return Market(round, ids, held, work or Work(2), Seeds(seed), memory or {})


def outcome(rows, accepted=None, clients=None, offer=None, memory=None, **more) -> Outcome:
    """rows: (n,) each client's update of a one-parameter model that starts at 0, aggregated by
    the mean of the accepted. The model w is worth 1 - (w - 1)^2 in accuracy and minus that in
    loss: the closer to 1 the better."""
    rows = torch.tensor(rows, dtype=torch.float64)[:, None]
    keep = torch.ones(len(rows), dtype=torch.bool) if accepted is None else torch.tensor(accepted)
    ids = torch.arange(len(rows)) if clients is None else torch.tensor(clients)
    samples = more.pop("samples", [10] * len(rows))
    updates = Updates(ids, rows, torch.tensor(samples))
    aggregate = Aggregate.mean(rows, keep) if len(rows) else Aggregate(torch.zeros(1), keep)
    aggregate = replace(aggregate, **more.pop("aggregate", {}))
    return Outcome(
        round=1,
        offer=offer or Offer(work=[Work()] * len(rows)),
        updates=updates,
        aggregate=aggregate,
        model=torch.zeros(1, dtype=torch.float64),
        evaluate=more.pop("evaluate", parabola),
        rng=np.random.default_rng(0),
        memory=memory or {},
        **more,
    )


def parabola(model):
    """Best at 1."""
    value = 1 - (float(model[0]) - 1) ** 2
    return {"accuracy": value, "loss": -value}


def arrived(offer, positions) -> Offer:
    """The offer of those whose rows arrived."""
    return offer.cut(positions)
