"""Leave-one-out: how much better the model gets on the server's data without each client."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.errors import ConfigError

Metric = Literal["loss", "error"]
WORST = 1e300  # stands for a loss that is not finite: worse than any, yet differences stay numbers


def removal_impacts(
    rule: Defense, updates: Tensor, context: Context, metrics: Sequence[Metric]
) -> Tensor:
    """(n, metrics): the metric of A(X) minus the metric of A(X without row i).

    Positive means that removing client i helps. Needs n >= 2 and `context.evaluate`; calls it
    n + 1 times. A rule whose test is "always" is aggregated once, see `_without`.
    """
    if context.evaluate is None:
        raise ConfigError(
            "Leave-one-out scores need the server's evaluation, got a context without it: pass "
            "Context(evaluate=...), a function from a model (d,) to loss and accuracy."
        )
    full = rule(updates, context)
    losses = [_measure(full.vector, context, metrics)]
    losses += [
        _measure(_without(client, rule, full, updates, context), context, metrics)
        for client in range(len(updates))
    ]
    table = torch.tensor(losses, dtype=torch.float64)
    return table[0] - table[1:]


def _without(
    client: int, rule: Defense, full: Aggregate, updates: Tensor, context: Context
) -> Tensor:
    """A(X without the client), (d,)."""
    fixed, coefficients = rule.test == "always", full.coefficients
    if fixed and coefficients is not None and (rest := 1 - float(coefficients[client])) > 1e-6:
        # a mean with weights c that sum to 1 loses a row: (A(X) - c_i x_i) / (1 - c_i)
        left = full.vector.double() - float(coefficients[client]) * updates[client].double()
        return (left / rest).to(updates.dtype)
    keep = torch.arange(len(updates), device=updates.device) != client
    return rule(updates[keep], context.rows(keep)).vector


def _measure(vector: Tensor, context: Context, metrics: Sequence[Metric]) -> list[float]:
    values = context.evaluate(vector if context.model is None else context.model + vector)
    named = {name: values["loss"] if name == "loss" else 1 - values["accuracy"] for name in metrics}
    return [float(x) if isfinite(x) else WORST for x in named.values()]
