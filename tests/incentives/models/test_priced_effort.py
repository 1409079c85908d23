"""M1: the response by hand, by the oracle, by cvxpy and by brute force; three facts on prices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from fedalign.core.errors import ConfigError
from incentives.cross_check import solve_followers
from incentives.models.priced_effort import PricedEffort, unit_price
from tests.incentives.three_followers import SCALES, owner, priced

positive = st.floats(0.05, 5.0)


def test_one_follower_by_hand():
    """q = h = 1, a = b = 1/2, r = (1, 2): x = 1/(2 a) = 1, y = 2; U = 1 - 1/2 + 4 - 2 = 2.5."""
    market = PricedEffort(1.0, 1.0, 0.5, 0.5)
    actions = market.equilibrium((1, 2))
    assert actions.tolist() == [[1.0, 2.0]]
    assert market.utility((1, 2), actions).tolist() == [2.5]
    assert market.payments((1, 2), actions).tolist() == [5.0]


def test_a_binding_budget_by_hand():
    """x0 = 1, y0 = 2, F = 1: lam = (3 - 1) / (1 + 1) = 1; x = 1 - 1 = 0, y = 2 - 1 = 1."""
    assert PricedEffort(1.0, 1.0, 0.5, 0.5, 1.0).equilibrium((1, 2)).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("price", "x", "y"),
    [
        ((3, 4), (1.4444444444, 0.1, 0.8125), (0.5555555556, 1.4, 2.1875)),
        ((5, 1), (2, 1.5, 2.9375), (0, 0, 0.0625)),
    ],
)
def test_oracle_i1_responses(price, x, y):
    actions = priced((2, 1.5, 3)).equilibrium(price)
    np.testing.assert_allclose(actions.T, [x, y], atol=1e-10)


def test_oracle_i1_prices_without_budgets():
    """S_t = 1/1 + .64/.8 + .25/.6 = 2.216667; r_t = (sqrt(1 + 2 S_t 20) - 1) / (2 S_t)."""
    market = priced(10.0)
    np.testing.assert_allclose(market.strengths().sum(0), [2.2166666667, 1.7858333333], rtol=1e-9)
    price = owner(market).closed_form()
    np.testing.assert_allclose(price, [1.9103567987, 1.4165453801], rtol=1e-9)
    actions = market.equilibrium(price)
    np.testing.assert_allclose(
        actions.T,
        [[1.9103567987, 1.9103567987, 1.5919639989], [0.8853408625, 1.1804544834, 1.1332363041]],
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        market.utility(price, actions), [2.1382629263, 2.2958689117, 1.4024170726], rtol=1e-9
    )
    assert owner(market).utility(price, actions) == pytest.approx(34.0449717934, rel=1e-10)


def test_no_closed_form_where_a_budget_binds():
    assert owner(priced((2, 1.5, 3))).closed_form() is None


def test_fact_personal_prices_do_not_help_the_owner():
    """Section 2.1 (i): the best price of each of three followers alone is the common one."""
    market = priced()
    common = owner(market).closed_form()[0]
    strength = market.strengths()[:, 0]  # contribution = strength x price, paid price^2 x strength

    def loss(prices):
        return -(20 * np.log1p(strength @ prices) - strength @ prices**2)

    best = minimize(loss, np.ones(3), method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(best, common, rtol=1e-5)


def test_fact_efficiency_of_training():
    """Section 2.1 (ii): X at the equilibrium against (-X0 + sqrt(X0^2 + 4 S g)) / 2."""
    strength = priced().strengths()[:, 0].sum()
    price = unit_price(np.array([strength]), np.array([20.0]), np.array([1.0]))[0]
    bought, best = price * strength, (-1 + np.sqrt(1 + 4 * strength * 20)) / 2
    assert bought == pytest.approx(4.2346242371, rel=1e-10)
    assert best == pytest.approx(6.1770752080, rel=1e-10)

    def welfare(x):
        return 20 * np.log1p(x) - x**2 / (2 * strength)

    assert welfare(bought) / welfare(best) == pytest.approx(0.9431996624, rel=1e-9)


@given(st.lists(st.tuples(*[positive] * 5), min_size=1, max_size=6), positive, positive)
def test_fact_nobody_loses(followers, r_t, r_m):
    """Section 2.1 (iii): doing nothing is feasible, so U >= 0."""
    market = PricedEffort(*np.array(followers).T)
    actions = market.equilibrium((r_t, r_m))
    assert (market.utility((r_t, r_m), actions) >= 0).all()
    assert market.feasible(actions).max() <= 1e-15


@given(st.tuples(*[positive] * 5), positive, positive)
@settings(max_examples=60)
def test_no_point_of_a_fine_grid_is_better(follower, r_t, r_m):
    market = PricedEffort(*follower)
    price = np.array([r_t, r_m])
    best = market.equilibrium(price)
    share = np.linspace(0, 1, 61)
    x, y = (v.ravel() for v in np.meshgrid(share, share))
    tried = np.stack([x, y], axis=1)[x + y <= 1] * market.budget[0]
    earned = market.payoff(price, tried[None], best)
    assert earned.max() <= market.utility(price, best)[0] + 1e-12


def test_150_random_followers_agree_with_cvxpy():
    rng = np.random.default_rng(5)
    q, h, a, b = rng.uniform(0.05, 2.0, (4, 150))
    market = PricedEffort(q, h, a, b, 10 ** rng.uniform(-2, 1, 150))
    price = np.array([1.3, 0.9])
    ours = market.equilibrium(price)
    earned = market.utility(price, ours)
    pieces = market.pieces(price, ours, np.arange(150))
    solved = solve_followers(pieces, ours.sum(axis=1), np.maximum(earned, 1e-6))
    assert solved.failed == 0
    gap = market.payoff(price, solved.actions, ours) - earned
    assert gap.max() <= 1e-12 and gap.min() >= -1e-7


@given(st.permutations(range(3)), positive, positive)
def test_followers_have_no_order(order, r_t, r_m):
    market, order = priced((2, 1.5, 3)), np.array(order)
    fields = ("quality", "efficiency", "training_cost", "mining_cost", "budget")
    moved = PricedEffort(*(getattr(market, f)[order] for f in fields))
    expected = market.equilibrium((r_t, r_m))[order]
    assert np.array_equal(moved.equilibrium((r_t, r_m)), expected)


def test_zero_quality_or_efficiency_zeroes_that_part():
    actions = priced(5.0, quality=(0, 0.8, 0.5), efficiency=(0.5, 0, 0.8)).equilibrium((2, 2))
    assert actions[0, 0] == 0 and actions[1, 1] == 0 and (actions[2] > 0).all()


def test_zero_budget_zeroes_all():
    assert priced((0, 1.5, 3)).equilibrium((2, 2))[0].tolist() == [0.0, 0.0]


def test_inputs_are_kept_as_they_were():
    """Frozen: neither the caller's array nor ours can be changed later."""
    quality = np.array([1.0, 2.0])
    market = PricedEffort(quality, 1.0, 1.0, 1.0)
    quality[0] = 99.0
    assert market.quality.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        market.quality[0] = 3.0


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("quality", (1, np.nan, 1), r"quality must be at least 0 and finite, got nan \(follower 1"),
        ("training_cost", (1, 1, 0), r"training_cost must be above 0.*got 0 \(follower 2"),
        ("mining_cost", np.inf, "mining_cost must be above 0 and finite, got inf"),
        ("efficiency", (1, 2), "one length, got quality 3, efficiency 2"),
        ("budget", (1, -1, 1), "budget must be at least 0, got -1"),
        ("quality", "much", "quality must be numbers"),
        ("quality", [[1, 2]], "one vector"),
    ],
)
def test_wrong_inputs_are_refused(field, value, words):
    given = {"budget": 1.0, field: value}
    with pytest.raises(ConfigError, match=words):
        priced(**given)


@pytest.mark.parametrize("price", [(1,), (1, np.inf), (-1, 1)])
def test_wrong_prices_are_refused(price):
    with pytest.raises(ConfigError, match=r"prices|finite|at least 0"):
        priced().equilibrium(price)


def test_no_gain_no_price():
    price = unit_price(np.array([2.0, 2.0]), np.array([-5.0, 0.0]), np.array(SCALES))
    assert price.tolist() == [0.0, 0.0]
