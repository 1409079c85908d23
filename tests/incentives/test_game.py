"""solve(): oracles with a leader, certificates that fail when they must, section 8 by name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedalign.core.errors import ConfigError
from incentives.certificate import certify_followers
from incentives.game import AT_BOUND, CERTIFIED, NO_CONTEST, UNCERTIFIED, solve
from incentives.models.model_owner import ModelOwner
from incentives.models.priced_effort import PricedEffort
from incentives.models.tied_prices import TiedPrices
from incentives.models.time_saving import TimeSaving
from incentives.models.train_mine_contest import TrainMineContest
from incentives.models.tullock_contest import TullockContest
from tests.incentives.three_followers import contest, owner, priced


def test_oracle_i1_closed_form_and_search_agree():
    market = priced(10.0)
    exact = solve(owner(market), market)
    searched = solve(owner(market), market, method="search", points=17)
    assert (exact.method, searched.method) == ("closed_form", "search")
    assert exact.status == searched.status == CERTIFIED
    np.testing.assert_allclose(searched.price, exact.price, rtol=1e-5)
    assert searched.leader_utility == pytest.approx(34.0449717934, rel=1e-10)


def test_oracle_i1_no_price_of_a_grid_is_better():
    """601 x 601 on [0, 6]^2 has its best, 34.0449347, at (1.91, 1.42); here every 20th point."""
    market = priced(10.0)
    best = solve(owner(market), market).leader_utility
    assert best > 34.0449347
    for r_t in np.linspace(0, 6, 31):
        for r_m in np.linspace(0, 6, 31):
            price = np.array([r_t, r_m])
            assert owner(market).utility(price, market.equilibrium(price)) <= best
    price = np.array([1.91, 1.42])
    found = owner(market).utility(price, market.equilibrium(price))
    assert found == pytest.approx(34.0449347, abs=5e-8)


def test_oracle_i1_with_budgets():
    market = priced((2, 1.5, 3))
    answer = solve(owner(market), market)
    assert answer.method == "search" and answer.status == CERTIFIED
    np.testing.assert_allclose(answer.price, [1.4375807, 0.9757477], rtol=3e-6)
    assert answer.leader_utility == pytest.approx(30.1754228567, rel=1e-10)
    np.testing.assert_allclose(answer.actions[:, 0], [1.41650, 0.98716, 1.19798], atol=1e-5)
    np.testing.assert_allclose(answer.actions[:, 1], [0.58350, 0.51284, 0.78060], atol=1e-5)
    full = answer.actions.sum(axis=1) >= np.array([2, 1.5, 3]) - 1e-9
    assert full.tolist() == [True, True, False]


def test_oracle_i2_leader_without_budgets():
    market = contest()
    answer = solve(owner(market), market, points=9)
    assert answer.method == "closed_form" and answer.status == CERTIFIED
    assert answer.price[1] == pytest.approx(9.25, rel=1e-12)


def test_oracle_i2_leader_with_budgets():
    market = contest((4, 2, 5))
    answer = solve(owner(market), market, points=17)
    assert answer.status == CERTIFIED
    np.testing.assert_allclose(answer.price, [1.59184892, 3.8533284], rtol=3e-6)
    assert answer.leader_utility == pytest.approx(37.9452959688, rel=1e-11)
    np.testing.assert_allclose(answer.actions[:, 0], [1.5918489, 1.4494476, 1.3265408], atol=1e-5)
    np.testing.assert_allclose(answer.actions[:, 1], [2.4081511, 0.5505524, 1.8164104], atol=1e-5)


def test_a_tullock_publisher_and_a_time_buyer_are_certified():
    workers = TullockContest((0.1, 0.1, 1.0))
    answer = solve(ModelOwner(workers, (10.0,), (1.0,)), workers)
    assert answer.status == CERTIFIED and answer.price[0] == pytest.approx(9.8)
    savers = TimeSaving((3.0, 2.0), 0.3, 10.0)
    answer = solve(ModelOwner(savers, (10.0,), (1.0,)), savers)
    assert answer.status == CERTIFIED and answer.method == "search"


def test_separate_prices_beat_one_price_for_all():
    market = priced((2, 1.5, 3))
    tied = TiedPrices(market)
    one = solve(owner(tied), tied)
    assert one.status == CERTIFIED
    assert solve(owner(market), market).leader_utility >= one.leader_utility


# ---------------------------------------------------------------- mutations


@pytest.mark.parametrize("market", [priced((2, 1.5, 3)), contest((4, 2, 5)), contest()])
@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_one_action_off_by_a_percent_loses_the_certificate_at_n_3(market, factor):
    price = np.array([2.0, 6.0]) if isinstance(market, TrainMineContest) else np.array([1.4, 0.9])
    actions = market.equilibrium(price)
    assert certify_followers(market, price, actions).holds
    for u, part in np.argwhere(actions > 0):
        wrong = actions.copy()
        wrong[u, part] *= factor
        assert not certify_followers(market, price, wrong, sample=3, draws=20).holds, (u, part)


@pytest.mark.parametrize("part", [0, 1])
def test_one_action_off_by_a_percent_loses_the_certificate_at_n_100000(part):
    """The miner's payoff is about R / n^2 = 6e-10 beside an income from training near 1."""
    rng, n = np.random.default_rng(0), 100_000
    q, a, b = (rng.uniform(low, high, n) for low, high in ((0.5, 1), (0.2, 0.6), (0.4, 0.8)))
    market, price = TrainMineContest(q, a, b), np.array([1.0, 6.0])
    actions = market.equilibrium(price)
    assert certify_followers(market, price, actions, sample=4).holds
    active = np.flatnonzero(actions[:, 1] > 0)[7]
    actions[active, part] *= 1.01
    proof = certify_followers(market, price, actions, sample=4)
    assert not proof.holds and proof.checks["parts"] > 5e-5


def test_priced_effort_off_by_a_percent_loses_the_certificate_at_n_100000():
    rng, n = np.random.default_rng(0), 100_000
    market, price = PricedEffort(*rng.uniform(0.2, 1.0, (4, n)), 1.0), np.array([1.0, 1.0])
    actions = market.equilibrium(price)
    assert certify_followers(market, price, actions, sample=4).holds
    actions[np.flatnonzero(actions[:, 0] > 0)[99], 0] *= 0.99
    assert not certify_followers(market, price, actions, sample=4).holds


def test_an_action_beyond_its_budget_is_never_certified():
    market, price = priced((2, 1.5, 3)), np.array([5.0, 1.0])
    actions = market.equilibrium(price)
    actions[0, 0] += 1e-6
    proof = certify_followers(market, price, actions)
    assert proof.feasibility == pytest.approx(5e-7) and not proof.holds


def test_a_wrong_price_is_shown_as_uncertified():
    """A closed form that lies by 1 % is found out by the leader's certificate."""
    market = priced(10.0)

    class Liar(ModelOwner):
        def closed_form(self):
            return 1.01 * super().closed_form()

    honest = ModelOwner(market, (20.0, 10.0), (1.0, 1.0))
    answer = solve(Liar(market, (20.0, 10.0), (1.0, 1.0)), market)
    assert answer.certificate.eps_leader > 0
    price = 1.3 * honest.closed_form()

    class Fool(ModelOwner):
        def closed_form(self):
            return price

    answer = solve(Fool(market, (20.0, 10.0), (1.0, 1.0)), market)
    assert answer.status == UNCERTIFIED and answer.certificate.eps_leader > 1e-3


# ---------------------------------------------------------------- small games, brute force


@given(st.integers(0, 5000))
@settings(max_examples=8, deadline=None)
def test_small_games_by_brute_force(seed):
    """Two followers, 25 x 25 prices times the followers' exact answers: none pays more."""
    rng = np.random.default_rng(seed)
    market = PricedEffort(*rng.uniform(0.2, 1.5, (4, 2)), rng.uniform(0.2, 3.0, 2))
    boss = ModelOwner(market, rng.uniform(1, 20, 2), rng.uniform(0.5, 2, 2))
    answer = solve(boss, market, points=13)
    assert answer.status == CERTIFIED
    for r_t in np.linspace(*boss.bounds[0], 25):
        for r_m in np.linspace(*boss.bounds[1], 25):
            price = np.array([r_t, r_m])
            earned = boss.utility(price, market.equilibrium(price))
            assert earned <= answer.leader_utility + 1e-7 * abs(answer.leader_utility)


# ---------------------------------------------------------------- section 8


def test_one_client_is_no_contest():
    for market in (TrainMineContest(1.0, 0.5, 0.4), contest((4, 0, 0))):
        answer = solve(owner(market), market)
        assert answer.status == NO_CONTEST and "reserve" in answer.reason
        assert not answer.actions.any() and answer.actions.shape == (market.n, 2)


def test_one_client_and_a_reserve_is_a_contest():
    market = TrainMineContest(1.0, 0.5, 0.4, 5.0, reserve=0.5)
    answer = solve(owner(market), market, points=9)
    assert answer.status == CERTIFIED and answer.actions[0, 1] > 0


def test_zero_quality_of_all_makes_training_worthless():
    market = priced(10.0, quality=0.0)
    answer = solve(owner(market), market)
    assert answer.price[0] == 0.0 and not answer.actions[:, 0].any()
    assert AT_BOUND in answer.flags and answer.status == CERTIFIED


def test_zero_budgets_give_zero_actions():
    market = priced(0.0)
    answer = solve(owner(market), market, points=9)
    assert not answer.actions.any() and answer.leader_utility == 0.0
    assert answer.status == CERTIFIED


@pytest.mark.parametrize("gains", [(0.0, 10.0), (-3.0, 10.0), (20.0, 0.0)])
@pytest.mark.parametrize("budget", [10.0, (2, 1.5, 3)])
def test_no_gain_no_price(gains, budget):
    market = priced(budget)
    answer = solve(owner(market, gains), market, points=9)
    worthless = int(np.argmin(gains))
    assert answer.price[worthless] == 0.0 and answer.price[1 - worthless] > 0
    assert AT_BOUND in answer.flags and answer.status == CERTIFIED


def test_no_prize_no_mining():
    market = contest((4, 2, 5))
    answer = solve(owner(market, gains=(20.0, 0.0)), market, points=9)
    assert answer.price[1] == 0.0 and not answer.actions[:, 1].any()


def test_costs_twelve_orders_apart_are_certified():
    market = TrainMineContest(0.5, 1.0, np.logspace(-6, 6, 13), 50.0)
    assert solve(owner(market), market, points=9).status == CERTIFIED


def test_prices_at_a_bound_are_flagged():
    """The best training price is 1.91; 1 is allowed."""
    market = priced(10.0)
    answer = solve(owner(market, bounds=((0, 1), (0, 5))), market, points=17)
    assert answer.price[0] == pytest.approx(1.0) and answer.flags == (AT_BOUND,)
    assert answer.status == CERTIFIED
    assert solve(owner(market), market, points=9).flags == ()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(ConfigError, match="finite"):
        priced(quality=(1.0, value, 0.5))
    with pytest.raises(ConfigError, match=r"finite|at least 0"):
        priced().equilibrium((1.0, value))
    with pytest.raises(ConfigError, match="finite"):
        owner(priced(), gains=(value, 1.0))


def test_of_equally_good_prices_the_cheapest_wins():
    """Nobody can do anything: every price is worth 0, so nothing is offered."""
    market = priced(0.0)
    assert solve(owner(market), market, points=9).price.tolist() == [0.0, 0.0]


def test_same_seed_same_bits():
    market = priced((2, 1.5, 3))
    first, second = (solve(owner(market), market, points=9, seed=3) for _ in range(2))
    assert np.array_equal(first.price, second.price)
    assert first.certificate.checks == second.certificate.checks


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"method": "magic"}, "auto, closed_form or search, got 'magic'"),
        ({"points": 2}, "points >= 3"),
        ({"tol": 0.0}, "tol > 0"),
        ({"method": "closed_form"}, "a budget binds"),
    ],
)
def test_wrong_requests_are_refused(asked, words):
    market = priced((2, 1.5, 3))
    with pytest.raises(ConfigError, match=words):
        solve(owner(market), market, **asked)
