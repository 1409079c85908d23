"""M3, Tullock, tied prices, the owner: oracles, hand-worked numbers, refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedalign.core.errors import ConfigError
from incentives.certificate import certify_followers
from incentives.models.model_owner import ModelOwner
from incentives.models.tied_prices import TiedPrices
from incentives.models.time_saving import TimeSaving
from incentives.models.train_mine_contest import TrainMineContest
from incentives.models.tullock_contest import TullockContest
from tests.incentives.three_followers import owner, priced


class TestTimeSaving:
    def test_oracle(self):
        """(2 * 3 / .6)^(1/3) = 10^(1/3)."""
        assert TimeSaving(3.0, 0.3, 10.0).equilibrium(2)[0, 0] == pytest.approx(2.1544346900)

    def test_with_energy_per_cycle_the_workload_does_not_matter(self):
        """a = kappa C gives (r / (2 kappa))^(1/3): r = 2, kappa = .125 gives 2."""
        work = np.array([1.0, 3.0, 20.0])
        actions = TimeSaving(work, 0.125 * work, 100.0).equilibrium(2)
        np.testing.assert_allclose(actions[:, 0], 2.0, rtol=1e-14)

    def test_money_by_hand(self):
        """C = 4, a = 1, r = 4: x = 8^(1/3) = 2; saved 10 - 4/2 = 8; U = 32 - 4 = 28."""
        market = TimeSaving(4.0, 1.0, 10.0)
        actions = market.equilibrium(4)
        assert actions[0, 0] == pytest.approx(2.0)
        assert market.contributions(actions)[0, 0] == pytest.approx(8.0)
        assert market.payments(4, actions)[0] == pytest.approx(32.0)
        assert market.utility(4, actions)[0] == pytest.approx(28.0)

    def test_a_budget_cuts(self):
        assert TimeSaving(4.0, 1.0, 10.0, 1.5).equilibrium(4)[0, 0] == 1.5

    def test_who_would_lose_declines(self):
        """Even at its best speed the deadline of 1 s is missed: 1 - 4/2 < 0."""
        market = TimeSaving(4.0, 1.0, 1.0)
        assert market.equilibrium(4)[0, 0] == 0.0
        assert market.utility(4, market.equilibrium(4))[0] == 0.0

    def test_no_budget_no_price_no_action(self):
        assert TimeSaving(4.0, 1.0, 10.0, 0.0).equilibrium(4)[0, 0] == 0.0
        assert TimeSaving(4.0, 1.0, 10.0).equilibrium(0)[0, 0] == 0.0

    @given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0.5, 20), st.floats(0.1, 5))
    def test_no_speed_is_better(self, work, cost, deadline, price):
        market = TimeSaving(work, cost, deadline, 3.0)
        best = market.equilibrium(price)
        tried = np.linspace(0, 3, 400)[None, :, None]
        earned = market.payoff(np.array([price]), tried, best)
        assert earned.max() <= market.utility(price, best)[0] + 1e-12

    def test_is_certified(self):
        rng = np.random.default_rng(1)
        market = TimeSaving(*rng.uniform(0.5, 3, (2, 40)), 5.0, rng.uniform(0.5, 3, 40))
        proof = certify_followers(market, np.array([2.0]), market.equilibrium(2))
        assert proof.holds and proof.checks["cvxpy_short"] < 1e-6

    def test_a_workload_of_nothing_is_refused(self):
        with pytest.raises(ConfigError, match="workload must be above 0"):
            TimeSaving(0.0, 1.0, 1.0)


class TestTullockContest:
    def test_is_the_contest_without_training(self):
        cost, budget = (0.4, 0.6, 0.5), (4.0, 2.0, 0.5)
        ours = TullockContest(cost, budget)
        whole = TrainMineContest(0.0, 1.0, cost, budget)
        assert np.array_equal(ours.equilibrium(6)[:, 0], whole.equilibrium((0, 6))[:, 1])

    def test_the_publishers_reward(self):
        """kappa = 2 / 1.5; delta = 10 - 3/4 = 9.25, as in oracle I2."""
        assert owner(TullockContest((0.4, 0.6, 0.5)), (10.0,), (1.0,)).closed_form()[0] == 9.25

    def test_a_reward_is_paid_out_whole_and_in_proportion(self):
        market = TullockContest((0.4, 0.6, 0.5))
        actions = market.equilibrium(6)
        paid = market.payments(6, actions)
        assert paid.sum() == pytest.approx(6, rel=1e-14)
        np.testing.assert_allclose(paid, 6 * actions[:, 0] / actions.sum(), rtol=1e-13)

    def test_is_certified_and_a_wrong_effort_is_not(self):
        market, price = TullockContest(np.linspace(0.4, 0.8, 50), 1.0), np.array([6.0])
        actions = market.equilibrium(price)
        assert certify_followers(market, price, actions).holds
        actions[3] *= 1.01
        assert not certify_followers(market, price, actions).holds

    def test_one_client_alone(self):
        assert "contest" in TullockContest(1.0).obstacle(np.array([1.0]))


class TestTiedPrices:
    def test_one_price_is_paid_for_both(self):
        market = priced((2, 1.5, 3))
        tied = TiedPrices(market)
        assert np.array_equal(tied.equilibrium(1.5), market.equilibrium((1.5, 1.5)))
        actions = tied.equilibrium(1.5)
        assert np.array_equal(tied.utility(1.5, actions), market.utility((1.5, 1.5), actions))
        assert np.array_equal(tied.payments(1.5, actions), market.payments((1.5, 1.5), actions))

    def test_the_ceiling_is_the_larger_one(self):
        assert owner(TiedPrices(priced())).bounds.tolist() == [[0.0, 20.0]]


class TestModelOwner:
    def test_by_hand(self):
        """One follower q = h = 1, a = b = 1/2, prices 1: x = y = 1; V = 2 ln 2 + 4 ln 1.5 - 2."""
        market = priced(quality=1.0, efficiency=1.0, training_cost=0.5, mining_cost=0.5)
        answer = ModelOwner(market, (2, 4), (1, 2)).utility((1, 1), market.equilibrium((1, 1)))
        assert answer == pytest.approx(2 * np.log(2) + 4 * np.log(1.5) - 2, rel=1e-15)

    def test_never_looks_beyond_what_the_first_unit_is_worth(self):
        assert owner(priced(), (20, 10), (2, 4)).bounds.tolist() == [[0, 10], [0, 2.5]]

    def test_a_bound_may_rule_the_formula_out(self):
        """The formula says 1.91, the bound 1."""
        assert owner(priced(), bounds=((0, 1), (0, 2))).closed_form() is None

    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"gains": (20.0,)}, "one gain and one scale per contribution"),
            ({"gains": (np.inf, 1.0)}, "finite gains"),
            ({"scales": (0.0, 1.0)}, "scales above 0"),
            ({"bounds": ((0, 1),)}, "one finite .low, high. per price, 2 in all"),
            ({"bounds": ((2, 1), (0, 1))}, "0 <= low <= high"),
        ],
    )
    def test_wrong_inputs_are_refused(self, changed, words):
        with pytest.raises(ConfigError, match=words):
            owner(priced(), **changed)
