"""Shares of a budget, and whole units of them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedalign.core.errors import ConfigError
from incentives.payments.largest_remainder import largest_remainder
from incentives.payments.shares import proportional, uniform


def test_proportional_by_hand():
    """(1, 2, 5) of 100: 12.5, 25, 62.5. A negative contribution counts as 0."""
    assert proportional([1, 2, 5], 100) == [Fraction(25, 2), 25, Fraction(125, 2)]
    assert proportional([-3.0, 1.0, 3.0], 8) == [0, 2, 6]


def test_without_contributions_shares_are_uniform():
    assert proportional([0.0, -1.0, 0.0], 7) == uniform(3, 7) == [Fraction(7, 3)] * 3
    assert proportional([], 7) == uniform(0, 7) == []


def test_what_rounding_leaves_goes_to_the_largest_fractions_and_ties_to_the_lowest_id():
    """12.5 + 25 + 62.5: one unit is left, both halves are equal; id 3 comes before id 9."""
    amounts = proportional([1, 2, 5], 100)
    assert largest_remainder(amounts) == [13, 25, 62]
    assert largest_remainder(amounts, [9, 5, 3]) == [12, 25, 63]
    assert largest_remainder([Fraction(10, 3)] * 3, [2, 0, 1]) == [3, 4, 3]
    assert largest_remainder([0.9, 0.3, 0.3]) == [1, 0, 0]  # 1.5 in all: one whole unit


@given(
    st.lists(st.floats(0, 1e300, allow_nan=False), min_size=1, max_size=30),
    st.integers(0, 10**30),
)
def test_shares_sum_to_the_unit_at_any_size(contributions, budget):
    """Budgets of 10^30 base units, contributions 300 orders of magnitude apart."""
    units = largest_remainder(proportional(contributions, budget))
    shares = proportional(contributions, budget)
    assert sum(units) == budget
    assert all(abs(u - s) < 1 for u, s in zip(units, shares, strict=True))


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=20), st.randoms())
def test_the_order_of_clients_does_not_matter(amounts, random):
    order = list(range(len(amounts)))
    random.shuffle(order)
    moved = largest_remainder([amounts[i] for i in order], order)
    units = largest_remainder(amounts)
    assert moved == [units[i] for i in order]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1e-9])
def test_payments_that_would_not_sum_are_refused(bad):
    with pytest.raises(ConfigError, match="would not sum: account 7 would get"):
        largest_remainder([1.0, bad], [3, 7])


def test_two_amounts_for_one_account_are_refused():
    with pytest.raises(ConfigError, match=r"2 amounts for 1 different accounts \(2 named\)"):
        largest_remainder([1, 2], [4, 4])
    with pytest.raises(ConfigError, match="2 amounts for 1 different"):
        largest_remainder([1, 2], [4])


def test_a_contribution_that_is_no_number_is_refused():
    with pytest.raises(ConfigError, match=r"got nan \(position 1\)"):
        proportional([1.0, float("nan")], 10)
