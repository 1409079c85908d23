"""Oracle I3, the three ways to integrate, Jensen's order, exact Bayesian play and its mean field."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from incentives.game import CERTIFIED, solve
from incentives.incomplete.bayesian_contest import BayesianContest
from incentives.incomplete.belief import Belief
from incentives.incomplete.mean_field_contest import MeanFieldContest
from incentives.incomplete.type_counts import TypeCounts
from incentives.incomplete.uncertain_owner import UncertainOwner
from incentives.models.model_owner import ModelOwner
from incentives.models.priced_effort import PricedEffort
from incentives.models.train_mine_contest import TrainMineContest


def oracle_i3():
    """10 clients, each adds .5 or 1.5 with probability 1/2."""
    return Belief.of_counts(TypeCounts.exact(10, (0.5, 0.5)), np.array([0.5, 1.5]))


def informed(belief, gain, scale):
    """E of the value when the strength is seen before the price is set."""
    cases = [Belief([s], [1.0]) for s in belief.strengths]
    values = [c.unit_value(c.unit_price(gain, scale), gain, scale) for c in cases]
    return float(belief.weights @ values)


class TestTypeCounts:
    def test_two_coins_by_hand(self):
        """(0,2), (1,1), (2,0) with 1/4, 1/2, 1/4."""
        found = TypeCounts.exact(2, (0.5, 0.5))
        assert found.counts.tolist() == [[0, 2], [1, 1], [2, 0]]
        np.testing.assert_allclose(found.weights, [0.25, 0.5, 0.25], rtol=1e-14)

    @given(st.integers(0, 12), st.lists(st.floats(0.01, 1.0), min_size=1, max_size=4))
    @settings(max_examples=40)
    def test_all_cases_and_their_mean(self, clients, shares):
        p = np.array(shares) / sum(shares)
        found = TypeCounts.exact(clients, p)
        assert (found.counts.sum(axis=1) == clients).all()
        assert found.weights.sum() == pytest.approx(1.0, rel=1e-12)
        mean = TypeCounts.mean(clients, p).counts[0]
        np.testing.assert_allclose(found.weights @ found.counts, mean, atol=1e-10)

    def test_a_type_that_never_occurs(self):
        found = TypeCounts.exact(3, (1.0, 0.0))
        assert found.weights[found.counts[:, 1] == 0].sum() == pytest.approx(1.0)

    def test_too_many_cases_are_refused(self):
        with pytest.raises(
            ConfigError, match="more than 200000: draw a sample or use a mean field"
        ):
            TypeCounts.exact(500, np.full(6, 1 / 6))

    @pytest.mark.parametrize("p", [(0.5, 0.6), (-0.5, 1.5), (np.nan, 1.0), [[1.0]]])
    def test_wrong_probabilities_are_refused(self, p):
        with pytest.raises(ConfigError, match="sum to 1"):
            TypeCounts.exact(3, p)


class TestBelief:
    def test_oracle_i3(self):
        belief = oracle_i3()
        price = belief.unit_price(20, 1)
        assert price == pytest.approx(0.9501050565, rel=1e-9)
        assert belief.unit_value(price, 20, 1) == pytest.approx(37.7916121850, rel=1e-11)
        sure = belief.certain()
        wrong = sure.unit_price(20, 1)
        assert wrong == pytest.approx(0.9512492197, rel=1e-9)
        assert belief.unit_value(wrong, 20, 1) == pytest.approx(37.7915872820, rel=1e-11)
        assert sure.unit_value(wrong, 20, 1) == pytest.approx(38.0025348810, rel=1e-11)
        assert informed(belief, 20, 1) == pytest.approx(37.8913041049, rel=1e-11)

    @given(
        st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.01, 1)), min_size=1, max_size=6),
        st.floats(0.5, 50), st.floats(0.1, 5),
    )  # fmt: skip
    def test_knowing_less_never_pays(self, cases, gain, scale):
        """V_CE <= V_incomplete <= V_full, and the certainty equivalent promises too much."""
        belief = Belief(*np.array(cases).T)
        sure = belief.certain()
        wrong = sure.unit_price(gain, scale)
        got = belief.unit_value(wrong, gain, scale)
        best = belief.unit_value(belief.unit_price(gain, scale), gain, scale)
        slack = 1e-12 * (1 + abs(best))
        assert got <= best + slack and best <= informed(belief, gain, scale) + slack
        assert got <= sure.unit_value(wrong, gain, scale) + slack

    def test_certainty_equivalence_is_right_in_the_end(self):
        """The loss of the certainty equivalent falls with the number of clients."""
        losses = []
        for n in (5, 20, 80):
            belief = Belief.of_counts(TypeCounts.exact(n, (0.5, 0.5)), np.array([0.5, 1.5]))
            best = belief.unit_value(belief.unit_price(20, 1), 20, 1)
            got = belief.unit_value(belief.certain().unit_price(20, 1), 20, 1)
            losses.append((best - got) / best)
        assert losses[0] > 4 * losses[1] > 16 * losses[2] >= 0

    def test_gauss_and_legendre(self):
        """S = theta uniform on [1, 3]: E[S] = 2, E ln(1 + S) = [(1+s) ln(1+s) - s] / 2 from 1 to 3."""
        belief = Belief.quadrature(lambda t: t, lambda t: np.full_like(t, 0.5), 1.0, 3.0)
        assert belief.mean == pytest.approx(2.0, rel=1e-13)
        exact = (4 * np.log(4) - 3 - (2 * np.log(2) - 1)) / 2
        assert belief.unit_value(1.0, 1.0, 1.0) + 2.0 == pytest.approx(exact, rel=1e-13)

    def test_a_sample_comes_near_and_repeats(self):
        """4,096 draws of the same ten coins; same seed, same price."""

        def draw(rng, count):
            return 0.5 * 10 + rng.binomial(10, 0.5, count)

        first, second = (
            Belief.sampled(draw, Seeds(1).at("types")).unit_price(20, 1) for _ in range(2)
        )
        assert first == second == pytest.approx(0.9501050565, rel=1e-2)
        counts = TypeCounts.sampled(10, (0.5, 0.5), Seeds(2).at("types"))
        drawn = Belief.of_counts(counts, np.array([0.5, 1.5]))
        assert drawn.unit_price(20, 1) == pytest.approx(0.9501050565, rel=1e-2)

    def test_one_case_is_complete_information(self):
        """S = 2, X0 = 1, g = 20: (sqrt(1 + 80) - 1) / 4 = 2."""
        assert Belief([2.0], [1.0]).unit_price(20, 1) == pytest.approx(2.0, rel=1e-13)

    def test_a_prize_by_hand(self):
        """One case: v S / (Y0 + R S) = 1 gives R = v - Y0 / S = 10 - 1 / (4/3) = 9.25."""
        belief = Belief([4 / 3], [1.0])
        assert belief.prize(10, 1) == pytest.approx(9.25, rel=1e-13)
        assert belief.prize(0.7, 1) == 0.0

    @pytest.mark.parametrize("gain", [0.0, -1.0])
    def test_no_gain_no_price(self, gain):
        assert oracle_i3().unit_price(gain, 1) == 0.0 and oracle_i3().prize(gain, 1) == 0.0

    @pytest.mark.parametrize(
        ("strengths", "weights", "words"),
        [
            ([1, np.nan], [1, 1], "strengths must be finite"),
            ([1, 2], [1, -1], "weights must be finite and >= 0"),
            ([1, 2], [1], "one weight per strength"),
            ([1, 2], [0, 0], "not all be 0"),
        ],
    )
    def test_wrong_beliefs_are_refused(self, strengths, weights, words):
        with pytest.raises(ConfigError, match=words):
            Belief(strengths, weights)


TYPES = {
    "quality": (1.0, 0.4), "efficiency": (0.5, 0.9), "training_cost": (0.5, 0.4),
    "mining_cost": (0.4, 0.6),
}  # fmt: skip


class TestUncertainOwner:
    def owner(self, budget, counts=None):
        types = PricedEffort(**TYPES, budget=budget)
        cases = TypeCounts.exact(6, (0.3, 0.7)) if counts is None else counts
        return UncertainOwner(types, cases, (20.0, 10.0), (1.0, 1.0))

    def test_the_formula_is_the_beliefs_root(self):
        boss = self.owner(50.0)
        belief = Belief.of_counts(boss.counts, boss.types.strengths()[:, 0])
        assert boss.closed_form()[0] == belief.unit_price(20.0, 1.0)

    @pytest.mark.parametrize("budget", [50.0, 1.0])
    def test_solved_and_certified_with_and_without_budgets(self, budget):
        boss = self.owner(budget)
        answer = solve(boss, boss.types, points=17)
        assert answer.status == CERTIFIED
        assert answer.method == ("closed_form" if budget > 9 else "search")

    def test_certain_counts_are_the_known_market(self):
        boss = self.owner(1.0, TypeCounts(np.array([[2.0, 4.0]]), np.ones(1)))
        market = PricedEffort(**{k: np.repeat(v, (2, 4)) for k, v in TYPES.items()}, budget=1.0)
        known = ModelOwner(market, (20.0, 10.0), (1.0, 1.0))
        price = np.array([1.1, 0.7])
        ours = boss.utility(price, boss.types.equilibrium(price))
        assert ours == pytest.approx(known.utility(price, market.equilibrium(price)), rel=1e-14)

    def test_counts_of_other_types_are_refused(self):
        with pytest.raises(ConfigError, match="counts of 3 types, but 2 types answer"):
            self.owner(1.0, TypeCounts.exact(2, (0.2, 0.3, 0.5)))


class TestContests:
    def test_oracle_of_the_mean_field(self):
        """R (n-1) (E b^-1/2)^2 / n^2 with n = 5, b in {1, 2}, R = 10."""
        found = MeanFieldContest((1, 2), (0.5, 0.5), 5).efforts(10)
        np.testing.assert_allclose(found, [2.1656854, 0.1656854], rtol=2e-7)

    def test_oracle_of_exact_play(self):
        contest = BayesianContest((1, 2), (0.5, 0.5), 5)
        found = contest.efforts(10)
        np.testing.assert_allclose(found, [2.0926468957, 0.3531399759], rtol=1e-9)
        assert contest.gap(10, found) < 1e-12

    def test_the_mean_field_is_no_equilibrium_of_five(self):
        exact, field = (c((1, 2), (0.5, 0.5), 5) for c in (BayesianContest, MeanFieldContest))
        assert exact.gap(10, field.efforts(10)) > 0.1

    def test_one_type_is_the_symmetric_contest(self):
        """y = R (n - 1) / (n^2 b): both, and the game of complete information."""
        exact, field = (
            c((0.5,), (1.0,), 4).efforts(6)[0] for c in (BayesianContest, MeanFieldContest)
        )
        seen = TrainMineContest(0.0, 1.0, np.full(4, 0.5)).equilibrium((0, 6))[0, 1]
        assert exact == pytest.approx(6 * 3 / (16 * 0.5), rel=1e-12)
        assert field == pytest.approx(exact, rel=1e-12) and seen == pytest.approx(exact, rel=1e-12)

    def test_an_inactive_type_of_the_mean_field(self):
        """Active alone, type 1 has M = R (p / (1/(n-1) + p))^2 / b; the other stays out if b M > R."""
        found = MeanFieldContest((1, 100), (0.5, 0.5), 10).efforts(1.0)
        others = (0.5 / (1 / 9 + 0.5)) ** 2
        assert found[0] == pytest.approx(np.sqrt(others) - others, rel=1e-13) and found[1] == 0.0
        assert 9 * 0.5 * found[0] == pytest.approx(others, rel=1e-12)

    @given(
        st.lists(st.tuples(st.floats(0.05, 20), st.floats(0.05, 1)), min_size=1, max_size=3),
        st.integers(2, 12),
    )
    @settings(max_examples=40)
    def test_exact_play_leaves_nothing_to_gain_and_nobody_loses(self, kinds, clients):
        costs, shares = np.array(kinds).T
        contest = BayesianContest(costs, shares / shares.sum(), clients)
        found = contest.efforts(5.0)
        assert contest.gap(5.0, found) < 1e-9
        assert (contest.interim_utility(5.0, found) >= -1e-12).all()
        order = np.argsort(costs, kind="stable")
        assert (np.diff(found[order]) <= 1e-12 * found.max()).all()  # the cheaper mine more

    @pytest.mark.parametrize(
        ("costs", "p"),
        [((1, 1e6), (0.9, 0.1)), ((1, 3, 9, 27), (0.25,) * 4), ((1, 1e12), (0.5, 0.5))],
    )
    def test_thirty_clients_of_very_unequal_types(self, costs, p):
        contest = BayesianContest(costs, p, 30)
        assert contest.gap(1.0, contest.efforts(1.0)) < 1e-9

    def test_the_mean_field_gets_better_with_more_clients(self):
        gaps = []
        for n in (15, 20, 30):
            exact = BayesianContest((1, 4), (0.5, 0.5), n).efforts(10.0)
            field = MeanFieldContest((1, 4), (0.5, 0.5), n).efforts(10.0)
            gaps.append(np.abs(field - exact).max() / exact.max())  # .041, .036, .027
        assert gaps[0] > gaps[1] > gaps[2]

    def test_effort_is_proportional_to_the_prize(self):
        for contest in (MeanFieldContest, BayesianContest):
            one, ten = (contest((1, 2), (0.5, 0.5), 5).efforts(r) for r in (1.0, 10.0))
            np.testing.assert_allclose(ten, 10 * one, rtol=1e-13)

    @pytest.mark.parametrize("contest", [MeanFieldContest, BayesianContest])
    @pytest.mark.parametrize(
        ("costs", "clients", "words"),
        [
            ((1, 2), 1, "2 clients or more, got 1"),
            ((1, 0), 3, "finite cost above 0"),
            ((1, np.inf), 3, "finite cost above 0"),
            ((1,), 3, "per probability"),
        ],
    )
    def test_wrong_inputs_are_refused(self, contest, costs, clients, words):
        with pytest.raises(ConfigError, match=words):
            contest(costs, (0.5, 0.5), clients)

    def test_exact_play_of_many_is_refused(self):
        with pytest.raises(ConfigError, match="at most 30 clients, got 31: use MeanFieldContest"):
            BayesianContest((1, 2), (0.5, 0.5), 31)
