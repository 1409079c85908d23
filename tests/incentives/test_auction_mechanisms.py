"""Auctions as participation: losers get no task, winners what they were promised."""

import pytest

from fedalign.core.contracts import Work
from fedalign.core.errors import ConfigError
from incentives._bids import bids
from incentives.budget_feasible_auction import BudgetFeasibleAuction
from incentives.reverse_vcg_auction import ReverseVcgAuction
from tests.incentives.small_markets import market, outcome


def test_bids_are_private_whole_and_kept():
    here = market(range(30))
    costs = bids(here, (20, 80))
    assert costs == bids(market(range(30), round=4), (20, 80)) and len(set(costs)) > 15
    assert all(isinstance(c, int) and 20 <= c <= 80 for c in costs)
    assert bids(market([7]), (20, 80)) == [costs[7]]
    assert bids(here, (5, 5)) == [5] * 30


def test_the_cheapest_train_and_get_the_first_losing_bid():
    here = market(range(10), 10, Work(3))
    costs = bids(here, (20, 80))
    ranked = sorted(range(10), key=lambda i: (costs[i], i))
    offer = ReverseVcgAuction(units=4, cost=(20, 80)).announce(here)
    assert [i for i, work in enumerate(offer.work) if work == Work(3)] == sorted(ranked[:4])
    price = costs[ranked[4]]
    assert offer.prices == {"price": price, "winners": 4}
    expected = [price if i in ranked[:4] else 0 for i in range(10)]
    assert offer.promised.tolist() == expected
    assert offer.utility.tolist() == [
        p - c if p else 0 for p, c in zip(expected, costs, strict=True)
    ]


def test_a_reserve_limits_the_price_and_everybody_may_win():
    offer = ReverseVcgAuction(units=9, reserve=50, cost=(20, 40)).announce(market(range(3)))
    assert offer.promised.tolist() == [50.0] * 3
    nobody = ReverseVcgAuction(units=9, reserve=10, cost=(20, 40)).announce(market(range(3)))
    assert nobody.work == [None] * 3 and nobody.prices == {"price": 0.0, "winners": 0}


def test_too_few_bidders_are_named_before_any_training():
    with pytest.raises(ConfigError, match="10 units needs at least 11 bidders, got 5"):
        ReverseVcgAuction().announce(market(range(5)))


def test_the_budget_holds_and_every_winner_is_paid_its_cost():
    """Samples as values; in whole units too, because costs are whole."""
    for seed in range(20):
        here = market(range(15), list(range(10, 160, 10)), seed=seed)
        offer = BudgetFeasibleAuction(budget=300, cost=(20, 80)).announce(here)
        won = [i for i, work in enumerate(offer.work) if work is not None]
        after = outcome([1.0] * len(won), clients=won, offer=offer.cut(won))
        paid = BudgetFeasibleAuction(budget=300).settle(after)
        costs = bids(here, (20, 80))
        assert 0 < paid.total <= 300
        assert all(a >= costs[c] for c, a in zip(paid.accounts, paid.amounts, strict=True))
        assert (offer.utility >= 0).all()


def test_equal_clients_share_the_budget():
    """Ten equal ones of cost 20 and a budget of 100: five win, 20 each; with cost 7 all win 10."""
    tight = BudgetFeasibleAuction(budget=100, cost=(20, 20)).announce(market(range(10)))
    assert tight.promised.tolist() == [20.0] * 5 + [0.0] * 5
    assert tight.prices == {"rate": 2.0, "winners": 5}
    easy = BudgetFeasibleAuction(budget=100, cost=(7, 7)).announce(market(range(10)))
    assert easy.promised.tolist() == [10.0] * 10


def test_vetoed_winners_earn_nothing():
    offer = ReverseVcgAuction(units=2, cost=(20, 20)).announce(market(range(3)))
    after = outcome([1.0, 1.0], [False, True], clients=[0, 1], offer=offer.cut([0, 1]))
    paid = ReverseVcgAuction(units=2).settle(after)
    assert (paid.accounts, paid.amounts, paid.total) == ([0, 1], [0, 20], 20)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReverseVcgAuction(units=0), "units must be a whole number of 1 or more, got 0"),
        (lambda: ReverseVcgAuction(reserve=-1), "reserve must be a whole number of 0 or more"),
        (lambda: ReverseVcgAuction(cost=(1.5, 3)), "cost must be two whole numbers"),
        (lambda: BudgetFeasibleAuction(cost=(9, 3)), r"cost must be two .* got \(9, 3\)"),
        (lambda: BudgetFeasibleAuction(budget=True), "budget must be a whole number"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
