"""Shapley values: exact, sampled, GTG, and leave-one-out beside them."""

from itertools import permutations
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedalign.core.errors import ConfigError
from incentives.payments.coalitions import Coalitions
from incentives.payments.gtg_shapley import gtg_shapley, guided
from incentives.payments.leave_one_out import leave_one_out
from incentives.payments.sampled_shapley import sampled_shapley
from incentives.payments.shapley import shapley
from tests.incentives.payments.games import glove, logarithm, majority, table


@pytest.mark.parametrize(
    ("game", "expected"),
    [
        (glove, (1 / 6, 1 / 6, 2 / 3)),
        (majority((3, 2, 2), 4), (1 / 3, 1 / 3, 1 / 3)),
        (majority((4, 2, 1), 4), (1.0, 0.0, 0.0)),
        (logarithm((1, 2, 4)), (0.35389346, 0.63370136, 1.09184672)),
    ],
    ids=["glove game", "majority 3 2 2", "majority 4 2 1", "logarithm"],
)
def test_oracles_of_the_specification(game, expected):
    assert shapley(game, 3) == pytest.approx(expected, abs=5e-9)


def test_the_logarithms_values_sum_to_ln_8():
    assert shapley(logarithm((1, 2, 4)), 3).sum() == pytest.approx(log(8), abs=1e-14)


def test_leave_one_out_oracle():
    """ln 8 - ln 7, ln 8 - ln 6, ln 8 - ln 4."""
    found = leave_one_out(logarithm((1, 2, 4)), 3)
    assert found == pytest.approx((0.13353139, 0.28768207, 0.69314718), abs=5e-9)


def test_copies_shield_each_other_from_leave_one_out_but_not_from_shapley():
    """Any one of three equal clients would do: without one nothing is lost; Shapley gives 1/3."""
    any_one = majority((1, 1, 1), 1)
    assert leave_one_out(any_one, 3).tolist() == [0, 0, 0]
    assert shapley(any_one, 3) == pytest.approx([1 / 3] * 3)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6))
def test_axioms(n, seed):
    """Efficiency, additivity, and a player who adds nothing gets nothing."""
    one, other = table(n, seed), table(n, seed + 1)
    value = shapley(one, n)
    assert value.sum() == pytest.approx(one(tuple(range(n))) - one(()), abs=1e-12)
    both = shapley(lambda s: one(s) + 2 * other(s), n)
    assert both == pytest.approx(value + 2 * shapley(other, n), abs=1e-12)
    dummy = shapley(lambda s: one(tuple(i for i in s if i < n)), n + 1)
    assert dummy == pytest.approx([*value, 0.0], abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6))
def test_gtg_without_truncation_over_all_orders_is_exact(n, seed):
    """Also for games with negative values and v(nobody) != 0."""
    game = table(n, seed)
    found = gtg_shapley(game, n, permutations(range(n)), tolerance=0.0)
    assert found == pytest.approx(shapley(game, n), abs=1e-12)


def test_a_bound_of_0_skips_no_round_and_no_order():
    """v(N) = v(nobody) = 0, but 0 adds 1 and 1 takes it away. With "gain <= eps" as the condition
    an eps of 0 would pay 0; the exact values are 1 and -1."""

    def game(s):
        return float(s == (0,)) - float(s == (1,))

    assert shapley(game, 2).tolist() == [1.0, -1.0]
    assert gtg_shapley(game, 2, permutations(range(2)), tolerance=0.0).tolist() == [1.0, -1.0]


def test_a_round_without_gain_pays_nothing_and_asks_twice():
    asked = []

    def game(s):
        asked.append(s)
        return 0.5 + 0.001 * (len(s) == 4)

    rng = np.random.default_rng(0)
    assert gtg_shapley(game, 4, guided(4, rng), round_truncation=0.01).tolist() == [0.0] * 4
    assert sorted(asked) == [(), (0, 1, 2, 3)]


def test_truncation_inside_an_order_saves_coalitions_and_costs_little():
    """v saturates after two players: whoever joins later is never valued."""
    asked = []

    def game(s):
        asked.append(s)
        return min(len(s), 2) / 2

    found = gtg_shapley(game, 6, permutations(range(6)), truncation=0.01, tolerance=0.0)
    assert found == pytest.approx([1 / 6] * 6, abs=1e-12)
    assert max(len(s) for s in asked if len(s) < 6) == 2


def test_guided_orders_let_each_lead_in_turn():
    orders = list(guided(4, np.random.default_rng(3), most=9))
    assert [order[0] for order in orders] == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert len({tuple(order) for order in orders}) > 4
    assert sum(1 for _ in guided(2, np.random.default_rng(0))) == 60  # max(30, n) n
    assert sum(1 for _ in guided(40, np.random.default_rng(0))) == 1600


def test_gtg_stops_when_the_running_means_stand_still():
    """An additive game: every order says the same, so max(n, 10) orders are enough."""
    taken = []

    def orders():
        for order in guided(5, np.random.default_rng(0)):
            taken.append(order)
            yield order

    found = gtg_shapley(lambda s: float(sum(s)), 5, orders())
    assert found == pytest.approx([0, 1, 2, 3, 4]) and len(taken) == 10


def test_antithetic_pairs_are_exact_for_additive_and_for_pairwise_games():
    """Where a player's gain is linear in who came before, an order and its reverse sum to the
    truth: v(S) = |S|^2 gives phi = n for all, with an interval of width 0."""
    found = sampled_shapley(lambda s: float(len(s) ** 2), 7, np.random.default_rng(1), pairs=2)
    assert found.values == pytest.approx([7.0] * 7, abs=1e-12)
    assert found.half_width == pytest.approx([0.0] * 7, abs=1e-12)


def test_sampled_values_are_efficient_and_reproducible():
    game = table(8, 5)
    one = sampled_shapley(game, 8, np.random.default_rng(9), pairs=3)
    two = sampled_shapley(game, 8, np.random.default_rng(9), pairs=3)
    assert one.values.tolist() == two.values.tolist()
    assert one.values.sum() == pytest.approx(game(tuple(range(8))) - game(()), abs=1e-12)
    assert one.asked <= 2 * 3 * 8 + 1


def test_monte_carlo_at_twelve_clients_meets_the_exact_values_within_its_interval():
    """v(S) = ln(1 + data), twelve clients, 200 pairs: each 95 % interval covers the truth about 95
    times in 100. Over 20 seeds x 12 clients at least 90 % are covered, and the relative error
    (mean absolute error over mean value) stays below 4 %."""
    data = np.random.default_rng(0).lognormal(0, 1, 12)
    game = logarithm(data)
    truth = shapley(game, 12)
    covered, errors = [], []
    for seed in range(20):
        found = sampled_shapley(game, 12, np.random.default_rng(seed), pairs=200)
        covered += (np.abs(found.values - truth) <= found.half_width).tolist()
        errors.append(np.abs(found.values - truth).mean() / truth.mean())
    assert np.mean(covered) >= 0.9
    assert max(errors) < 0.04


def test_one_pair_has_no_interval():
    found = sampled_shapley(glove, 3, np.random.default_rng(0), pairs=1)
    assert np.isinf(found.half_width).all()


def test_a_coalition_is_asked_once_in_any_order():
    asked = []
    value = Coalitions(lambda s: asked.append(s) or len(s))
    assert value([2, 0]) == value((0, 2)) == value({0, 2}) == 2.0
    assert asked == [(0, 2)] and value.asked == 1


def test_refusals():
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="at most 12 clients, got 13"):
        shapley(glove, 13)
    with pytest.raises(ConfigError, match=r"pairs >= 1 and truncation >= 0, got 0 and 0\.0"):
        sampled_shapley(glove, 3, rng, pairs=0)
    with pytest.raises(ConfigError, match="truncation >= 0, got 1 and nan"):
        sampled_shapley(glove, 3, rng, pairs=1, truncation=float("nan"))
    with pytest.raises(ConfigError, match=r"of 0 or more, got 0\.0, -1 and 0\.05"):
        gtg_shapley(glove, 3, guided(3, rng), truncation=-1)
