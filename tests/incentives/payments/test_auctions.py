"""Auctions: who wins, what is paid, and that no lie pays."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedalign.core.errors import ConfigError
from incentives.payments.budget_feasible import budget_feasible
from incentives.payments.reverse_vcg import reverse_vcg

COSTS = st.lists(st.integers(0, 6), min_size=2, max_size=6)


def gain(award, client, cost):
    return float(award.payments[client]) - cost if client in award.winners else 0.0


def test_reverse_vcg_oracle():
    """Costs (3, 1, 4, 2), k = 2: clients 1 and 3 win; the third cost is 3."""
    award = reverse_vcg((3, 1, 4, 2), 2)
    assert award.winners == (1, 3)
    assert award.payments == (0.0, 3, 0.0, 3)


def test_a_reserve_refuses_dear_bids_and_caps_the_price():
    """Bids 1 2 3 with a reserve of 2.5: all units could be bought, the third is too dear."""
    award = reverse_vcg((1, 2, 3), 3, reserve=2.5)
    assert award.winners == (0, 1) and award.payments == (2.5, 2.5, 0.0)
    assert reverse_vcg((1, 2, 9), 2, reserve=4).payments == (4, 4, 0.0)
    assert reverse_vcg((5, 6), 1, reserve=4).winners == ()


def test_equal_bids_go_to_the_lower_position():
    assert reverse_vcg((2, 2, 2), 2).winners == (0, 1)
    assert budget_feasible((1, 1, 1), (2, 2, 2), 4).winners == (0, 1)


@pytest.mark.parametrize(
    ("values", "costs", "winners", "payments"),
    [
        ((4, 3, 2, 1), (2, 2, 2, 2), (0, 1, 2), (4.4444444, 3.3333333, 2.2222222, 0)),
        ((1, 1, 1, 1, 1), (1, 2, 3, 4, 5), (0, 1, 2), (3.3333333, 3.3333333, 3.3333333, 0, 0)),
    ],
)
def test_budget_feasible_oracles(values, costs, winners, payments):
    award = budget_feasible(values, costs, 10)
    assert award.winners == winners
    assert [float(p) for p in award.payments] == pytest.approx(payments, abs=1e-7)


def test_the_first_refused_bid_can_set_the_rate():
    """Values 1, costs 1 1 9, budget 20: the third fails 9 <= 20/3; 20/2 = 10 per value would be
    paid, but at a bid above 9 client 0 would come after client 2: 9 each."""
    assert budget_feasible((1, 1, 1), (1, 1, 9), 20).payments == (9, 9, 0.0)


def test_who_is_worth_nothing_loses_even_for_free():
    award = budget_feasible((0, 2), (0, 1), 5)
    assert award.winners == (1,) and award.payments == (0.0, 5)


def test_no_budget_buys_what_is_free_only():
    assert budget_feasible((1, 1), (0, 1), 0).winners == (0,)
    assert budget_feasible((), (), 10).winners == ()


@settings(max_examples=150, deadline=None)
@given(COSTS, st.data())
def test_reverse_vcg_no_lie_on_a_grid_pays(costs, data):
    units = data.draw(st.integers(1, len(costs) - 1))
    honest = reverse_vcg(costs, units)
    for client, cost in enumerate(costs):
        assert gain(honest, client, cost) >= 0
        for lie in range(8):
            bids = [*costs[:client], lie, *costs[client + 1 :]]
            assert gain(reverse_vcg(bids, units), client, cost) <= gain(honest, client, cost)


@settings(max_examples=150, deadline=None)
@given(COSTS, st.data())
def test_budget_feasible_no_lie_on_a_grid_pays(costs, data):
    """Truthful, payments cover costs, and the budget holds, all of it exactly."""
    values = data.draw(st.lists(st.integers(0, 4), min_size=len(costs), max_size=len(costs)))
    budget = data.draw(st.integers(0, 20))
    honest = budget_feasible(values, costs, budget)
    assert sum(Fraction(p) for p in honest.payments) <= budget
    for client, cost in enumerate(costs):
        assert gain(honest, client, cost) >= -1e-12
        for lie in [i / 2 for i in range(17)]:
            bids = [*costs[:client], lie, *costs[client + 1 :]]
            lied = gain(budget_feasible(values, bids, budget), client, cost)
            assert lied <= gain(honest, client, cost) + 1e-12


def test_refusals():
    with pytest.raises(ConfigError, match="2 units needs at least 3 bidders, got 2"):
        reverse_vcg((1, 2), 2)
    with pytest.raises(ConfigError, match=r"got nan \(bidder 1\)"):
        reverse_vcg((1, float("nan"), 3), 1)
    with pytest.raises(ConfigError, match="units >= 1 and a reserve of 0 or more, got 0 and None"):
        reverse_vcg((1, 2), 0)
    with pytest.raises(ConfigError, match=r"Bids of an auction .* got -1 \(bidder 0\)"):
        budget_feasible((1,), (-1,), 1)
    with pytest.raises(ConfigError, match="2 values and 1 bids"):
        budget_feasible((1, 2), (1,), 1)
    with pytest.raises(ConfigError, match=r"The budget of an auction .* got inf"):
        budget_feasible((1,), (1,), float("inf"))
