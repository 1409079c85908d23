"""BudgetFeasible: buy the most value per cost while the budget, shared by value, covers each bid.

Paper: Singer, "Budget Feasible Mechanisms", FOCS 2010, Section 3 (proportional share, additive
values).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from fedalign.core.errors import ConfigError
from incentives.payments.award import Award, check_bids


def budget_feasible(values: Sequence[float], costs: Sequence[float], budget: float) -> Award:
    """values, costs: (n,) >= 0, the costs as bid. budget: >= 0.

    In order of cost per value, accept while c_i <= budget v_i / (V + v_i), V the value accepted so
    far; pay v_i min(budget / V(W), c_k / v_k), k the first one refused. Truthful, individually
    rational, never above the budget. Whoever is worth nothing loses. Equal ratios: the lower
    position first. Payments are exact Fractions.
    """
    check_bids("Bids of an auction", costs)
    check_bids("Values of an auction", values)
    check_bids("The budget of an auction", [budget])
    if len(values) != len(costs):
        raise ConfigError(
            f"An auction needs one value per bid, got {len(values)} values and {len(costs)} bids."
        )
    value, cost, fund = [*map(Fraction, values)], [*map(Fraction, costs)], Fraction(budget)
    able = [i for i in range(len(value)) if value[i] > 0]
    order = sorted(able, key=lambda i: (cost[i] / value[i], i))
    bought, winners = Fraction(0), []
    for i in order:
        if cost[i] * (bought + value[i]) > fund * value[i]:
            break
        winners.append(i)
        bought += value[i]
    if not winners:
        return Award.of(len(value), {})
    rates = [fund / bought] + [cost[i] / value[i] for i in order[len(winners) :][:1]]
    return Award.of(len(value), {i: value[i] * min(rates) for i in winners})
