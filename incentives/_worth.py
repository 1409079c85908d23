"""Worth: what some clients' updates make of the model together, on the server's split.

Paper: following Wang et al., "A Principled Approach to Data Valuation for Federated Learning", 2020,
Section 4 (models rebuilt from one round's updates).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from fedalign.core.contracts import Evaluate
from fedalign.core.errors import ConfigError
from fedalign.core.market import Outcome
from fedalign.core.vectors import combine
from incentives.payments.coalitions import Worth

Measure = Literal["accuracy", "loss"]
MEASURES = ("accuracy", "loss")
WORST = 1e3  # a loss that is larger, or not a number, counts as this: values stay numbers


def worth_of(
    outcome: Outcome, rows: Sequence[int], measure: Measure, evaluate: Evaluate | None
) -> Worth:
    """v(S): the measure (accuracy, or minus the loss) of model + mean of the rows of S, where
    player p is row `rows[p]` of the outcome; v of nobody is the model's own."""
    if evaluate is None:
        raise ConfigError(
            "This payment rule measures contributions and got no evaluation: the round must pass "
            "Outcome.evaluate."
        )

    def worth(coalition: tuple[int, ...]) -> float:
        model = outcome.model
        if coalition:
            coefficients = torch.zeros(len(outcome.updates.rows), dtype=torch.float64)
            coefficients[[rows[p] for p in coalition]] = 1 / len(coalition)
            model = model + combine(coefficients, outcome.updates.rows)
        found = evaluate(model)
        if measure == "accuracy":
            return float(found["accuracy"])
        loss = float(found["loss"])
        return -min(loss, WORST) if loss == loss else -WORST

    return worth
