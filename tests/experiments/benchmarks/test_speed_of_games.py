"""The game speed table: rivals solve the same followers, extrapolation is labelled."""

import pytest

from experiments.benchmarks.games import measure

pytest.importorskip("cvxpy", reason="cvxpy is absent: pip install cvxpy")


@pytest.fixture(scope="module")
def rows():
    return measure(n=400, sample=10, stacked=400, repetitions=2)


def test_rivals_compute_what_we_compute(rows):
    priced = [r for r in rows if r["table"] == "priced_effort"]
    assert [r["time"] for r in priced] == ["measured", "extrapolated from 10", "measured"]
    for row in priced[1:]:
        assert row["largest difference"] < 2e-3  # of the solver's default tolerance


def test_ratios_are_of_the_rows_beside_them(rows):
    ours, *solvers = (r for r in rows if r["table"] == "priced_effort")
    for row in solvers:
        assert row["ratio"] == pytest.approx(row["milliseconds"] / ours["milliseconds"])


def test_the_contest_is_certified_and_goals_are_asked_at_scale_only(rows):
    steps = {r["step"]: r for r in rows if r["table"] == "train_mine_contest"}
    assert steps["followers' certificate"]["eps"] < 1e-9
    assert any(step.endswith("CERTIFIED") for step in steps)
    assert all(r["met"] is None for r in rows)
