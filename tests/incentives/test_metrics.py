"""Section 7's oracles, the extremes, and what is undefined says why."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedalign.core.errors import ConfigError
from incentives import metrics
from incentives.metrics import balance, efficiency, envy, gini, jain, rationality, spearman, theil
from tests.incentives.three_followers import owner, priced

amounts = st.lists(st.floats(0.0, 1e6), min_size=1, max_size=20)


def test_one_to_four_by_hand():
    """Jain 100 / (4 * 30); Gini (-3 - 2 + 3 + 12) / 40 = .25."""
    assert float(jain((1, 2, 3, 4))) == pytest.approx(0.8333333333, rel=1e-9)
    assert float(gini((1, 2, 3, 4))) == pytest.approx(0.25, rel=1e-12)


def test_utilities_of_oracle_i1():
    market = priced(10.0)
    price = owner(market).closed_form()
    actions = market.equilibrium(price)
    earned = market.utility(price, actions)
    assert float(jain(earned)) == pytest.approx(0.9614854633, rel=1e-9)
    assert float(gini(earned)) == pytest.approx(0.1020525, rel=1e-6)
    total = metrics.welfare(owner(market).utility(price, actions), earned)
    assert total == pytest.approx(39.8815207, rel=1e-8)


@pytest.mark.parametrize("n", [1, 3, 10])
def test_equal_shares_and_one_who_has_all(n):
    one = np.zeros(n)
    one[n // 2] = 7.0
    assert float(jain(np.full(n, 7.0))) == pytest.approx(1.0)
    assert float(gini(np.full(n, 7.0))) == pytest.approx(0.0, abs=1e-15)
    assert float(theil(np.full(n, 7.0))) == pytest.approx(0.0, abs=1e-15)
    assert float(jain(one)) == pytest.approx(1 / n)
    assert float(gini(one)) == pytest.approx(1 - 1 / n)
    assert float(theil(one)) == pytest.approx(np.log(n))


def test_nobody_has_anything():
    assert float(jain((0, 0))) == 1.0 and float(gini((0, 0))) == 0.0 and float(theil((0, 0))) == 0.0


@pytest.mark.parametrize("metric", [jain, gini, theil])
def test_negative_values_have_no_index_and_say_so(metric):
    score = metric((1.0, -2.0))
    assert (
        np.isnan(score.value) and "undefined for negative values; the least is -2" in score.reason
    )


@given(amounts, st.floats(1e-3, 1e3))
def test_the_unit_of_money_does_not_matter(values, unit):
    scaled = np.array(values) * unit
    for metric in (jain, gini, theil):
        if max(values) > 1e-200:
            assert float(metric(scaled)) == pytest.approx(float(metric(values)), rel=1e-6, abs=1e-9)


@given(amounts)
def test_indices_stay_in_range(values):
    n = len(values)
    assert 1 / n - 1e-9 <= float(jain(values)) <= 1 + 1e-9
    assert -1e-9 <= float(gini(values)) <= 1 - 1 / n + 1e-9
    assert -1e-9 <= float(theil(values)) <= np.log(n) + 1e-9


def test_a_transfer_from_rich_to_poor_lowers_inequality():
    before, after = (1.0, 2.0, 9.0), (2.0, 2.0, 8.0)
    assert float(jain(after)) > float(jain(before))
    assert float(gini(after)) < float(gini(before))
    assert float(theil(after)) < float(theil(before))


def test_who_loses_by_taking_part():
    """Three of four do not lose; a rounding error is no loss."""
    found = rationality((1.0, 0.0, -1e-12, -0.5))
    assert found.share == 0.75 and found.worst == -0.5


def test_budgets():
    assert balance((3, 4), 10).deficit == 0 and balance((3, 4), 10).used == 0.7
    over = balance((8, 4), 10)
    assert over.paid == 12 and over.deficit == 2 and over.used == 1.2
    assert np.isnan(balance((0.0,), 0).used)


def test_efficiency_of_nothing_has_a_reason():
    assert float(efficiency(3, 4)) == 0.75
    assert "nothing to share" in efficiency(0.0, 0.0).reason


def test_rank_correlation_by_hand():
    """d = (0, 1, -1): 1 - 6 * 2 / (3 * 8) = .5; ties share a rank."""
    assert float(spearman((1, 2, 3), (10, 30, 20))) == pytest.approx(0.5)
    assert float(spearman((1, 2, 3), (3, 2, 1))) == -1.0
    assert float(spearman((1, 1, 2, 2), (5, 5, 9, 9))) == pytest.approx(1.0)
    assert "no rank" in spearman((1, 1), (2, 3)).reason


def test_envy_by_hand():
    """The first would gain 2 with the third's bundle, the second nothing, the third 1."""
    assert envy([(1.0, 0.0, 3.0), (1.0, 5.0, 2.0), (2.0, 1.0, 1.0)]) == 2.0
    assert envy([]) == 0.0 and envy([(1.0, 1.0 + 1e-12)]) == 0.0


@pytest.mark.parametrize("values", [[], [np.nan], [[1.0]], [np.inf, 1]])
def test_wrong_vectors_are_refused(values):
    with pytest.raises(ConfigError, match="one vector of finite numbers"):
        jain(values)


def test_unequal_lengths_are_refused():
    with pytest.raises(ConfigError, match="2 payments do not fit 3 contributions"):
        spearman((1, 2), (1, 2, 3))
