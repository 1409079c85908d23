"""Closed forms of bribery: worked tables, and the exact scores they predict."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.pofel import bribery
from consensus.pofel.btsv import Btsv, score
from fedalign.core.errors import ConfigError

BREAK_EVEN = {  # p: beta* at alpha = 1, 1.5, 2, 4, infinity
    0.50: (0.333333, 0.406793, 0.432594, 0.467675, 0.5),
    0.55: (0.310345, 0.373169, 0.394728, 0.423670, 0.45),
    0.60: (0.285714, 0.338204, 0.355784, 0.379078, 0.4),
    0.75: (0.200000, 0.224489, 0.232058, 0.241686, 0.25),
    0.90: (0.090909, 0.095673, 0.097014, 0.098646, 0.1),
}


@pytest.mark.parametrize("p", sorted(BREAK_EVEN))
def test_the_break_even_table(p):
    found = [bribery.break_even_share(p, alpha) for alpha in (1, 1.5, 2, 4, math.inf)]
    assert found == pytest.approx(BREAK_EVEN[p], abs=1e-6)
    assert found[0] == pytest.approx((1 - p) / (2 - p), abs=1e-9)  # q / (1 + q)


def test_O_B2_and_O_B3():
    assert bribery.naive(0.25) == pytest.approx(0.75 * math.log(1 / 3))
    assert bribery.copycat(0.25, 0.9, 1 / 30) == pytest.approx(1.647918, abs=1e-6)


@pytest.mark.parametrize(
    ("r", "alpha", "pair"),
    [
        (0.4, 1, (-1.109035, 0.277259)),
        (0.6, 1, (-0.784663, 0.196166)),
        (0.8, 1, (-0.554518, 0.138629)),
        (1 - 1e-12, 1, (-0.376003, 0.094001)),
        (8 / 9, 2, (-0.503498, 0.026041)),
    ],
)
def test_O_B5(r, alpha, pair):
    assert bribery.per_capita(0.2, 0.6, 0.4, r, 1 - r, alpha) == pytest.approx(pair, abs=1e-6)


def test_O_B6():
    calibrated = [bribery.calibrated(b / 10, 0.1) for b in (1, 2, 3)]
    assert calibrated == pytest.approx([0, 0.554518, 0.769029], abs=1e-6)
    optimal = [bribery.optimal(b / 10, 0.1) for b in (1, 2, 3)]
    assert optimal == pytest.approx([0.094824, 0.733033, 1.018701], abs=1e-6)


@given(
    n=st.integers(3, 20), b=st.integers(1, 9), p=st.integers(2, 98), r=st.integers(1, 99),
    alpha=st.sampled_from([0.5, 1.0, 2.0]),
)  # fmt: skip
def test_exact_scores_equal_the_closed_form(n, b, p, r, alpha):
    """Everybody's integer score, to a micro-nat."""
    if 2 * b >= n:
        return
    votes = [0] * (n - b) + [1] * b
    shares = [(p, 100 - p)] * (n - b) + [(r, 100 - r)] * b
    found = score(votes, shares, Btsv("collapsed", alpha_ppm=round(alpha * 1e6))).total
    bribed, honest = bribery.per_capita(b / n, p / 100, 1 - p / 100, r / 100, 1 - r / 100, alpha)
    assert found[-1] / 1e6 == pytest.approx(bribed, abs=1e-6)
    assert found[0] / 1e6 == pytest.approx(honest, abs=1e-6)
    if alpha == 1:
        assert honest == pytest.approx(-b / (n - b) * bribed)


@given(b=st.floats(0.01, 0.49), q=st.floats(0.01, 0.99), alpha=st.floats(1.01, 8))
def test_no_prediction_beats_the_optimal_one(b, q, alpha):
    best = bribery.optimal(b, q, alpha)
    star = bribery.best_prediction(b, alpha)
    for r in [0.05 * i for i in range(1, 20)] + [star]:
        found = bribery.per_capita(b, 1 - q, q, r, 1 - r, alpha)[0]
        assert found <= best + 1e-9
    assert bribery.per_capita(b, 1 - q, q, star, 1 - star, alpha)[0] == pytest.approx(best)


@given(b=st.floats(0.01, 0.499))
def test_naive_bribery_loses_below_one_half(b):
    assert bribery.naive(b) < 0


def test_below_alpha_one_the_payoff_has_no_bound():
    with pytest.raises(ConfigError, match="alpha >= 1"):
        bribery.optimal(0.2, 0.1, alpha=0.5)


def test_anchored_deviation_loses_for_every_share_below_half():
    """ln((1-p)/(p b)) - ln(1/cap) at b = 1/2, p = .6, cap = .9: ln(4/3) + ln(.9) = ln 1.2."""
    assert bribery.anchored_loss(0.5) == pytest.approx(math.log(1.2))
    assert all(bribery.anchored_loss(b / 100) > 0 for b in range(1, 50))
    assert bribery.break_even_bribe(0.5, 1000.0) == pytest.approx(1000 * math.log(1.2))
    assert bribery.anchored_loss(0.3) == pytest.approx(
        bribery.anchored_compliance() - bribery.anchored_deviation(0.3)
    )


def test_honest_servers_lead_up_to_the_specified_share():
    assert bribery.outscored_below() == pytest.approx(0.347763, abs=1e-6)
    assert bribery.outscored_below(predicted=0.999) == pytest.approx(0.208, abs=5e-4)


@pytest.mark.parametrize("b", range(1, 6))
def test_T05_prediction_aware_bribery_profits_under_prelec_and_loses_under_anchored(b):
    """n = 11, honest p = .9: coalitions of 2 and more earn by copying predictions; anchored, none."""
    n, votes = 11, [0] * (11 - b) + [1] * b
    sly = score(votes, [(9, 1)] * n, Btsv("prelec")).total
    assert sly[-1] / 1e6 == pytest.approx(bribery.copycat(b / n, 0.9, 0.1), abs=1e-6)
    assert (sly[-1] > 0) == ((n - b) / b < 9)
    told = [(9, 1)] * (n - b) + [(n - b, b)] * b
    safe = score(votes, told, Btsv("anchored"))
    comply = score([0] * n, [(9, 1)] * n, Btsv("anchored")).total[0]
    assert comply - safe.total[-1] >= 1e6 * bribery.anchored_loss(b / n) - 2
    assert (safe.total[0] > safe.total[-1]) == (b / n < bribery.outscored_below())
