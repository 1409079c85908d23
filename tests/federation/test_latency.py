"""How many edge rounds: closed forms against numbers worked out by hand and against search."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedalign.core.errors import ConfigError
from fedalign.federation.latency import (
    Progress,
    RoundTime,
    fastest,
    first_timeout_s,
    least_feasible,
    majority_s,
    near_tie,
    searched,
)

WORKED = RoundTime(2.0, 6.0), Progress(1.0, 0.01)


def test_the_closed_form_by_hand():
    """a = 2, b = 6, c = .01, e = .2: K* = 3 (sqrt(1 + .4 / .06) - 1), time in units of speed."""
    choice = fastest(*WORKED, 0.2)
    assert choice.exact == pytest.approx(5.306623862918, abs=1e-9)
    assert choice.edge_rounds == 5 == searched(*WORKED, 0.2).edge_rounds
    time, progress = WORKED
    g = [time(k) * progress.rounds(k, 0.2) for k in range(4, 9)]
    expected = [21.875, 21.333333, 21.428571, 21.978022, 22.916667]
    assert g == pytest.approx([100 * v / 100 for v in expected], abs=1e-6)
    k = choice.exact
    assert (2 * k + 6) / (k * (0.2 - 0.01 * k)) == pytest.approx(21.306623862918, abs=1e-9)


def test_a_fixed_number_of_rounds_takes_the_smallest_k_that_converges_and_covers_consensus():
    """a = 2, consensus 7 s asks for K >= 4; convergence alone for 3: X / (K T) <= .1 - .01 K."""
    time, progress = RoundTime(2.0, 0.5, 7.0, pipelined=True), Progress(21.0, 0.01)
    assert progress(3, 100) <= 0.1 < progress(2, 100) + 0.0
    assert least_feasible(time, progress, 0.1, 100).edge_rounds == 4
    assert least_feasible(RoundTime(2.0), progress, 0.1, 100).edge_rounds == 3


@pytest.mark.parametrize(
    ("servers", "first", "tie"), [(3, 0.1875, 0.18696), (5, 0.175, 0.29175), (7, 0.16875, 0.38304)]
)
def test_elections(servers, first, tie):
    assert first_timeout_s(0.15, 0.30, servers) == pytest.approx(first)
    assert near_tie(0.01, 0.15, 0.30, servers) == pytest.approx(tie, abs=5e-6)
    timers = np.random.default_rng(0).uniform(0.15, 0.30, (20_000, servers))
    assert timers.min(axis=1).mean() == pytest.approx(first, abs=1e-3)


def test_a_majority_answers():
    """Five servers: the second of four exponential round trips, 20 ms (1/4 + 1/3)."""
    assert majority_s(0.02, 5) == pytest.approx(0.0116667, abs=1e-7)
    trips = np.sort(np.random.default_rng(0).exponential(0.02, (40_000, 4)), axis=1)
    assert trips[:, 1].mean() == pytest.approx(majority_s(0.02, 5), rel=0.02)


@given(
    a=st.floats(0.1, 10), b=st.floats(0.0, 50), wait=st.floats(0.0, 30), c=st.floats(1e-4, 0.05),
    e=st.floats(0.06, 2.0), pipelined=st.booleans(),
)  # fmt: skip
def test_the_closed_form_is_never_slower_than_any_k(a, b, wait, c, e, pipelined):
    time, progress = RoundTime(a, b, wait, pipelined), Progress(3.0, c)
    try:
        best = searched(time, progress, e)
    except ConfigError:
        with pytest.raises(ConfigError, match="No number of edge rounds reaches"):
            fastest(time, progress, e)
        return
    assert fastest(time, progress, e).seconds == pytest.approx(best.seconds, rel=1e-12)


def test_longer_consensus_asks_for_more_edge_rounds():
    chosen = [fastest(RoundTime(1.0, 0.1, w), Progress(1.0, 0.001), 0.2).exact for w in range(1, 9)]
    assert chosen == sorted(chosen) and chosen[-1] > 2 * chosen[0]


def test_a_pipelined_round_hides_the_shorter_of_both():
    assert RoundTime(2.0, 1.0, 7.0)(3) == 14.0 and RoundTime(2.0, 1.0, 7.0, True)(3) == 8.0
    assert RoundTime(2.0, 1.0, 5.0, True)(3) == 7.0
    assert RoundTime(2.0, 1.0, 7.0, True).least == 4 and RoundTime(2.0, 1.0, 8.0, True).least == 4


def test_progress_is_fitted_and_never_negative():
    k, t = np.meshgrid([1, 2, 4, 8], [5, 10, 20])
    truth = Progress(4.0, 0.02, 0.3)
    noise = 1 + 0.01 * np.random.default_rng(0).standard_normal(k.size)
    found = Progress.fitted(k.ravel(), t.ravel(), truth(k.ravel(), t.ravel()) * noise)
    assert (found.speed, found.drift, found.floor) == pytest.approx((4.0, 0.02, 0.3), rel=0.05)
    falling = Progress.fitted([1, 2, 4], [5, 5, 5], [1.0, 0.4, 0.1])
    assert falling.drift == 0 and falling.speed > 0


def test_what_cannot_be_reached_is_said():
    with pytest.raises(ConfigError, match=r"the smallest reachable bound is 0\.45 at K=20"):
        least_feasible(RoundTime(1.0), Progress(4.0, 0.01, 0.05), 0.2, 1)
    with pytest.raises(
        ConfigError, match=r"consensus asks for 90; the bound cannot fall below 0\.9"
    ):
        fastest(RoundTime(1.0, 0.0, 90.0, True), Progress(1.0, 0.01), 0.2)
    with pytest.raises(ConfigError, match="got K=0"):
        RoundTime(1.0)(0)
    with pytest.raises(ConfigError, match="edge_s > 0"):
        RoundTime(0.0)
    with pytest.raises(ConfigError, match="three measurements, got 2"):
        Progress.fitted([1, 2], [3, 4], [1.0, 2.0])
