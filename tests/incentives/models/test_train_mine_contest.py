"""M2: oracle I2, the closed form, best responses, brute force, twelve decades of costs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from fedalign.core.errors import ConfigError
from incentives.certificate import certify_followers
from incentives.iteration import iterate
from incentives.models.train_mine_contest import TrainMineContest
from tests.incentives.three_followers import QUALITY, contest, owner, random_contest

PRICE = np.array([2.0, 6.0])


def test_two_equal_miners_by_hand():
    """Symmetric: y = R (n - 1) / (n^2 b) = 4 (1/4) / 1 = 1 each; U = R / n^2 = 1."""
    market = TrainMineContest(0.0, 1.0, (1.0, 1.0))
    actions = market.equilibrium((0, 4))
    np.testing.assert_allclose(actions[:, 1], [1, 1], rtol=1e-12)
    np.testing.assert_allclose(market.utility((0, 4), actions), [1, 1], rtol=1e-12)


def test_oracle_i2_without_budgets():
    market = contest()
    actions = market.equilibrium(PRICE)
    np.testing.assert_allclose(actions[:, 0], [2, 2, 5 / 3], rtol=1e-12)
    np.testing.assert_allclose(actions[:, 1], [56 / 15, 1.6, 8 / 3], rtol=1e-12)
    np.testing.assert_allclose(
        market.utility(PRICE, actions), [3.30666666667, 1.84, 1.5], rtol=1e-10
    )


def test_oracle_i2_with_budgets():
    market = contest((4, 2, 5))
    actions = market.equilibrium(PRICE)
    np.testing.assert_allclose(actions[:, 0], [1.7606185161, 1.5391220618, 5 / 3], rtol=1e-9)
    np.testing.assert_allclose(actions[:, 1], [2.2393814839, 0.4608779382, 2.9921138145], rtol=1e-9)
    assert actions[:, 1].sum() == pytest.approx(5.6923732367, rel=1e-10)
    np.testing.assert_allclose(
        market.utility(PRICE, actions), [3.4359976118, 1.7242945131, 2.4910898077], rtol=1e-9
    )


def test_oracle_i2_agrees_with_an_optimiser_that_knows_no_formula():
    """SLSQP, follower after follower, from the middle of the budgets."""
    market, budget = contest((4, 2, 5)), (4.0, 2.0, 5.0)
    actions = np.array(budget)[:, None] * np.full((3, 2), 0.4)
    for _ in range(60):
        for u in range(3):
            who = np.array([u])
            answer = minimize(
                lambda z, who=who: -market.payoff(PRICE, z[None], actions, who)[0],
                actions[u], method="SLSQP", bounds=[(0, None)] * 2, options={"ftol": 1e-14},
                constraints={"type": "ineq", "fun": lambda z, u=u: budget[u] - z.sum()},
            )  # fmt: skip
            actions[u] = answer.x
    np.testing.assert_allclose(actions, market.equilibrium(PRICE), atol=2e-6)


def test_oracle_i2_an_inactive_miner():
    """b = (.1, .1, 1): Y = R / .2 = 30; the third would need b < R / Y = .2."""
    actions = TrainMineContest(0.0, 1.0, (0.1, 0.1, 1.0)).equilibrium((0, 6))
    np.testing.assert_allclose(actions[:, 1], [15, 15, 0], rtol=1e-12)


def test_oracle_i2_the_owners_prize_in_closed_form():
    """kappa = 2 / 1.5 = 4/3; R = 10 - 1 / (4/3) = 9.25; v ln(1 + 4/3 R) - R = 16.6526716545."""
    market = contest()
    assert market.kappa() == pytest.approx(4 / 3, rel=1e-15)
    price = owner(market).closed_form()
    np.testing.assert_allclose(price, [1.9103567987, 9.25], rtol=1e-9)
    total = market.equilibrium(price)[:, 1].sum()
    assert 10 * np.log1p(total) - 9.25 == pytest.approx(16.6526716545, rel=1e-11)


def test_a_prize_not_worth_paying():
    """v below Y0 / kappa: the first unit of prize buys less than it costs."""
    assert owner(contest(), gains=(20.0, 0.7)).closed_form()[1] == 0.0


def test_no_closed_form_where_a_budget_binds_or_the_house_mines():
    assert owner(contest((4, 2, 5))).closed_form() is None
    assert owner(contest(reserve=0.5)).closed_form() is None


@given(st.integers(0, 10_000), st.integers(2, 12), st.floats(0.1, 100.0), st.floats(0.0, 5.0))
@settings(max_examples=60)
def test_the_equilibrium_is_its_own_best_response(seed, n, prize, r_t):
    market = random_contest(np.random.default_rng(seed), n)
    price = np.array([r_t, prize])
    actions = market.equilibrium(price)
    earned, best = market.utility(price, actions), market.best_response(price, actions)
    gain = market.payoff(price, best, actions) - earned
    assert gain.max() <= 1e-9 * np.abs(earned).mean()
    assert market.feasible(actions).max() <= 1e-12


@given(st.integers(0, 10_000), st.floats(0.5, 20.0))
@settings(max_examples=25)
def test_no_point_of_a_fine_grid_is_better(seed, prize):
    """Brute force over one follower's triangle of actions, the others standing still."""
    market, price = random_contest(np.random.default_rng(seed), 3), np.array([1.0, prize])
    actions = market.equilibrium(price)
    share = np.linspace(0, 1, 81) ** 2
    x, y = (v.ravel() for v in np.meshgrid(share, share))
    tried = np.stack([x, y], axis=1)[x + y <= 1] * market.budget[:, None, None]
    earned = market.payoff(price, tried, actions)  # (3, points)
    best = market.utility(price, actions)
    assert (earned.max(axis=1) <= best + 1e-9 * np.abs(best).mean()).all()


@given(st.integers(0, 10_000), st.floats(0.0, 3.0))
@settings(max_examples=30)
def test_a_best_response_to_anything_beats_random_moves(seed, scale):
    """Also far from equilibrium, and within the budget."""
    rng = np.random.default_rng(seed)
    market, price = random_contest(rng, 4), np.array([1.0, 5.0])
    actions = market.budget[:, None] * rng.dirichlet(np.ones(3), 4)[:, :2]
    best = market.best_response(price, actions)
    earned = market.payoff(price, best, actions)
    tried = market.budget[:, None, None] * rng.dirichlet(np.ones(3), (4, 300))[..., :2]
    others = market.payoff(price, tried, actions)
    assert (others.max(axis=1) <= earned + 1e-9 * np.maximum(1, np.abs(earned))).all()
    assert market.feasible(best).max() <= 1e-12


def test_best_responses_in_turn_arrive_at_the_same_point():
    market = contest((4, 2, 5))
    found = iterate(market, PRICE, np.full((3, 2), 0.5))
    np.testing.assert_allclose(found, market.equilibrium(PRICE), rtol=1e-8)


def test_a_best_response_of_some_is_that_of_all():
    market = contest((4, 2, 5))
    actions = market.equilibrium(PRICE) * 0.9
    everybody = market.best_response(PRICE, actions)
    assert np.array_equal(market.best_response(PRICE, actions, np.array([2, 0])), everybody[[2, 0]])


def test_payments_are_the_prize_and_the_price_of_training():
    """sum of shares is 1: R + r_t sum q x."""
    market = contest((4, 2, 5))
    actions = market.equilibrium(PRICE)
    trained = 2 * np.dot(QUALITY, actions[:, 0])
    assert market.payments(PRICE, actions).sum() == pytest.approx(6 + trained, rel=1e-14)


def test_no_prize_no_mining():
    actions = contest((4, 2, 5)).equilibrium((2, 0))
    assert not actions[:, 1].any()
    np.testing.assert_allclose(actions[:, 0], [2, 2, 5 / 3], rtol=1e-14)


def test_no_budget_no_action():
    assert not contest(0.0).equilibrium(PRICE).any()


def test_one_miner_alone_has_no_equilibrium():
    market = TrainMineContest(1.0, 1.0, 1.0)
    assert "needs a contest" in market.obstacle(PRICE)
    with pytest.raises(ConfigError, match="Add a miner or set reserve"):
        market.equilibrium(PRICE)
    assert market.obstacle(np.array([2.0, 0.0])) == ""


def test_one_miner_against_the_house_by_hand():
    """y = sqrt(R m / b) - m with m = 1, R = 9, b = 1: y = 2."""
    actions = TrainMineContest(0.0, 1.0, 1.0, reserve=1.0).equilibrium((0, 9))
    assert actions[0, 1] == pytest.approx(2.0, rel=1e-12)


def test_nobody_mines_against_a_large_house():
    """The first unit wins R / m = .09, and costs 1."""
    assert TrainMineContest(0.0, 1.0, 1.0, reserve=100.0).equilibrium((0, 9))[0, 1] == 0.0


def test_costs_over_twelve_orders_of_magnitude():
    """b from 1e-6 to 1e6: solved in log Y, certified, only the cheapest mine."""
    market = TrainMineContest(0.5, 1.0, np.logspace(-6, 6, 25))
    actions = market.equilibrium(PRICE)
    proof = certify_followers(market, PRICE, actions)
    assert proof.holds, proof
    mined = actions[:, 1]
    assert (np.diff(mined) <= 0).all() and mined[0] > 0 and mined[-1] == 0


def test_two_miners_twelve_orders_apart():
    """y_u = R b_other / (b_1 + b_2)^2: both about R / b_2 = 6 here."""
    market = TrainMineContest(0.0, 1.0, (1e-12, 1.0))
    price = np.array([0.0, 6.0])
    actions = market.equilibrium(price)
    assert actions[0, 1] == pytest.approx(6.0, rel=1e-9)
    assert actions[1, 1] == pytest.approx(6e-12, rel=1e-3)
    assert certify_followers(market, price, actions).holds


@pytest.mark.parametrize("n", [2, 10, 1000])
def test_many_equal_miners(n):
    """y = R (n - 1) / (n^2 b), U = R / n^2."""
    market = TrainMineContest(0.0, 1.0, np.full(n, 0.5))
    actions = market.equilibrium((0, 6))
    np.testing.assert_allclose(actions[:, 1], 6 * (n - 1) / (n**2 * 0.5), rtol=1e-10)
    np.testing.assert_allclose(market.utility((0, 6), actions), 6 / n**2, rtol=1e-9)


def test_tighter_budgets_never_raise_the_total():
    totals = [contest(f).equilibrium(PRICE)[:, 1].sum() for f in (10, 6, 4, 2, 1, 0.5)]
    assert (np.diff(totals) <= 1e-12).all()


def test_quality_zero_means_no_training():
    actions = contest(quality=(0.0, 0.8, 0.5)).equilibrium(PRICE)
    assert actions[0, 0] == 0 and actions[0, 1] > 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"reserve": -1.0}, "reserve must be at least 0"),
        ({"reserve": (1.0, 2.0)}, "reserve is one number"),
        ({"mining_cost": (0.4, 0.0, 0.5)}, "mining_cost must be above 0"),
        ({"quality": np.nan}, "quality must be at least 0 and finite"),
    ],
)
def test_wrong_inputs_are_refused(changed, words):
    with pytest.raises(ConfigError, match=words):
        contest(**changed)


@pytest.mark.slow
def test_400_random_games_are_certified():
    """Section 2.2's fuzz: 2 to 49 players, costs and budgets over three decades."""
    rng = np.random.default_rng(0)
    worst, violation = 0.0, 0.0
    for game in range(400):
        market = random_contest(rng, int(rng.integers(2, 50)))
        price = np.array([rng.uniform(0, 5), 10 ** rng.uniform(-1, 2)])
        proof = certify_followers(
            market, price, market.equilibrium(price), game, sample=2, draws=50
        )
        worst, violation = max(worst, proof.eps_follower), max(violation, proof.feasibility)
    assert worst <= 1e-9 and violation <= 1e-12, (worst, violation)
