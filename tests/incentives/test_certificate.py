"""The pieces certificates rest on: deviations are feasible, cvxpy is DPP and honest, gaps add up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from incentives.certificate import Certificate, certify_followers, certify_leader
from incentives.cross_check import parametrised, solve_followers
from incentives.game import solve
from incentives.models.model_owner import ModelOwner
from incentives.models.priced_effort import PricedEffort
from incentives.players import Pieces, excess
from incentives.search import Tried, grid, maximise
from incentives.social_optimum import social_optimum
from tests.incentives.three_followers import GAINS, SCALES, contest, owner, priced

PRICE = np.array([2.0, 6.0])


def test_the_gap_by_hand():
    """q = h = 1, a = b = 1/2, r = 1: U = x - x^2/2 + y - y^2/2, best 1 at (1, 1). At (.5, 1):
    U = .375 + .5 = .875, gap .125 / .875; training alone: .125 / .375."""
    market = priced(quality=1.0, efficiency=1.0, training_cost=0.5, mining_cost=0.5)
    wrong = market.equilibrium((1, 1))
    wrong[:, 0] = 0.5
    proof = certify_followers(market, (1, 1), wrong)
    assert proof.checks["best_response"] == pytest.approx(1 / 7, rel=1e-12)
    assert proof.checks["parts"] == proof.eps_follower == pytest.approx(1 / 3, rel=1e-12)
    assert proof.checks["cvxpy"] == pytest.approx(1 / 7, rel=1e-6)
    assert 0.1 < proof.checks["random"] <= 1 / 7


def test_limits_of_a_certificate():
    assert Certificate(1e-6, 1e-4, 1e-9, leader_scale=1.0).holds
    assert not Certificate(1.1e-6, 0.0, 0.0, 1.0).holds
    assert not Certificate(0.0, 1.1e-4, 0.0, 1.0).holds
    assert not Certificate(0.0, 0.0, 1.1e-9, 1.0).holds
    assert Certificate(0.0, np.nan, 0.0).holds  # no leader was asked
    assert not Certificate(0.0, 1e-12, 0.0, leader_scale=0.0).holds


def test_what_is_no_number_is_never_certified():
    market = priced()
    actions = market.equilibrium((1, 1))
    actions[1, 1] = np.nan
    assert not certify_followers(market, (1, 1), actions).holds


@given(st.integers(0, 1000), st.integers(2, 8))
@settings(max_examples=15, deadline=None)
def test_cvxpy_and_ours_agree_on_contests(seed, n):
    """Nothing gained by its answers, and nothing lost: they are the same."""
    rng = np.random.default_rng(seed)
    q, a, b, budget = rng.uniform(0.3, 1.5, (4, n))
    market = contest(budget, quality=q, training_cost=a, mining_cost=b)
    proof = certify_followers(market, PRICE, market.equilibrium(PRICE), seed, draws=20)
    assert proof.checks["cvxpy"] <= 1e-9 and proof.checks["cvxpy_short"] <= 1e-6


@pytest.mark.parametrize(("bends", "inverse"), [(False, False), (True, False), (False, True)])
def test_the_cross_check_is_one_dpp_problem(bends, inverse):
    program = parametrised(2, bends, inverse)
    assert program.problem.is_dcp(dpp=True)


def test_a_share_without_cancellation():
    """R z / (z + Y) as linear R/Y, bend R/Y^2, rate 1/Y: at z = 1, Y = 3, R = 8: 2."""
    z, others, prize = 1.0, 3.0, 8.0
    value = prize / others * z - prize / others**2 * z**2 / (1 + z / others)
    assert value == pytest.approx(2.0, rel=1e-15)


def test_the_solver_stays_within_the_budget():
    """max 4 z - z^2 with z <= 1 (free optimum 2)."""
    none = np.zeros((1, 1))
    pieces = Pieces(np.array([[4.0]]), np.array([[1.0]]), none, none, none, np.array([1.0]))
    solved = solve_followers(pieces, np.ones(1), np.ones(1))
    assert solved.failed == 0 and solved.actions[0, 0] <= 1.0
    assert solved.actions[0, 0] == pytest.approx(1.0, abs=1e-7)


def test_excess_by_hand():
    """(1, 2) in a budget of 2 is half too much; (-.1, 0) without a budget is .1 too little."""
    actions = np.array([[1.0, 2.0], [-0.1, 0.0], [0.5, 0.5]])
    assert excess(actions, np.array([2.0, np.inf, 1.0])).tolist() == [0.5, 0.1, 0.0]


def test_two_seeds_look_elsewhere_and_agree():
    market = contest((4, 2, 5))
    actions = market.equilibrium(PRICE)
    first, second = (certify_followers(market, PRICE, actions, seed) for seed in (0, 1))
    assert first.holds and second.holds


# ---------------------------------------------------------------- search


def test_the_grid_holds_both_ends():
    prices = np.array(list(grid(np.array([[0.0, 8.0]]), 5)))[:, 0]
    assert prices[0] == 0.0 and prices[-1] == pytest.approx(8.0) and len(prices) == 5
    assert len(list(grid(np.array([[0.0, 8.0], [0.0, 0.0]]), 5))) == 5  # nothing to choose there


def test_a_kink_beside_a_hill_is_found():
    """max min(4 r, 5 - r) is 4 at 1; the smooth hill at 6 is 3 high only."""
    tried = Tried(lambda r: (max(min(4 * r[0], 5 - r[0]), 3 - (r[0] - 6) ** 2), r[0]))
    maximise(tried, np.array([[0.0, 8.0]]), points=33, starts=5, tol=1e-10)
    price, value = tried.best()
    assert price[0] == pytest.approx(1.0, abs=1e-6) and value == pytest.approx(4.0, abs=1e-6)


def test_of_equal_values_the_cheapest_is_best():
    tried = Tried(lambda r: (1.0, float(r[0])))
    for price in (5.0, 2.0, 3.0):
        tried(np.array([price]))
    assert tried.best()[0].tolist() == [2.0]


def test_a_price_is_asked_for_once():
    asked = []
    tried = Tried(lambda r: (asked.append(r) or 1.0, 0.0))
    assert tried(np.array([2.0])) == tried(np.array([2.0])) == 1.0 and len(asked) == 1


def test_the_leaders_gap_by_hand():
    """V = -(r - 3)^2: at r = 2 moving to 3 gains 1."""
    tried = Tried(lambda r: (-float((r[0] - 3) ** 2), 0.0))
    gap = certify_leader(tried, np.array([[0.0, 8.0]]), np.array([2.0]))
    assert gap == pytest.approx(1.0, abs=1e-9)


# ---------------------------------------------------------------- social optimum


def test_the_social_optimum_without_budgets():
    """X = (-X0 + sqrt(X0^2 + 4 S g)) / 2 = 6.1770752080 for training, likewise for mining."""
    technology = priced().technology()
    best = social_optimum(technology, GAINS, SCALES)
    assert (technology.weights * best).sum(0)[0] == pytest.approx(6.1770752080, rel=5e-5)
    mined = (-1 + np.sqrt(1 + 4 * 1.7858333333 * 10)) / 2
    assert (technology.weights * best).sum(0)[1] == pytest.approx(mined, rel=5e-5)
    strength = priced().strengths().sum(axis=0)
    bought = np.array([6.1770752080, mined])
    exact = GAINS @ np.log1p(bought) - (bought**2 / (2 * strength)).sum()
    assert technology.welfare(best, GAINS, SCALES) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("market", [priced((2, 1.5, 3)), contest((4, 2, 5)), contest()])
def test_no_equilibrium_is_better_than_the_planner(market):
    technology, boss = market.technology(), owner(market)
    best = technology.welfare(social_optimum(technology, GAINS, SCALES), GAINS, SCALES)
    for price in ((1.4, 1.0), (2.0, 6.0), (5.0, 3.0)):
        actions = market.equilibrium(price)
        total = boss.utility(price, actions) + market.utility(price, actions).sum()
        assert technology.welfare(actions, GAINS, SCALES) == pytest.approx(total, rel=1e-12)
        assert total <= best + 1e-6
    assert market.feasible(social_optimum(technology, GAINS, SCALES)).max() <= 1e-12


def test_a_market_in_which_nobody_earns_is_certified_and_not_a_crash():
    """Gains 0: the price is 0, everybody stays away, every payoff is 0."""
    followers = PricedEffort((1, 1), (1, 1), (10, 10), (10, 10), (3, 3))
    answer = solve(ModelOwner(followers, (0, 0), (1, 1)), followers)
    assert answer.status == "CERTIFIED" and not np.any(answer.actions)
