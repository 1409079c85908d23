"""ReverseVcg: the k cheapest win, each is paid what the cheapest loser asked.

Paper: Vickrey, "Counterspeculation, Auctions, and Competitive Sealed Tenders", Journal of Finance
1961 (k identical units bought from single-unit sellers).
"""

from __future__ import annotations

from collections.abc import Sequence

from fedalign.core.errors import ConfigError
from incentives.payments.award import Award, check_bids


def reverse_vcg(costs: Sequence[float], units: int, reserve: float | None = None) -> Award:
    """costs: (n,) bids >= 0. units: k >= 1. reserve: the most the buyer pays for a unit; dearer
    bids lose and it caps the price. Equal bids: the lower position first.

    Truthful, and no winner is paid less than it asked. ConfigError where everybody wins and no
    reserve says what to pay.
    """
    check_bids("Bids of an auction", costs)
    if units < 1 or (reserve is not None and not reserve >= 0):
        raise ConfigError(
            f"A reverse auction needs units >= 1 and a reserve of 0 or more, got {units} and "
            f"{reserve}."
        )
    if len(costs) <= units and reserve is None:
        raise ConfigError(
            f"A reverse VCG auction of {units} units needs at least {units + 1} bidders, got "
            f"{len(costs)}: the price is the first losing bid. Lower the units or set a reserve."
        )
    order = sorted(range(len(costs)), key=lambda i: (costs[i], i))
    winners = [i for i in order[:units] if reserve is None or costs[i] <= reserve]
    prices = [costs[i] for i in order[units : units + 1]] + ([] if reserve is None else [reserve])
    return Award.of(len(costs), dict.fromkeys(winners, min(prices)))
