"""One rule against the others, seed by seed."""

import numpy as np
import pytest

from experiments.metrics import METRICS
from experiments.paired import Against, interval
from tests.experiments.synthetic_study import cell, study

TABLE = {  # rule -> accuracy of seeds 0, 1, 2
    "hieavg": (0.80, 0.60, 0.70),
    "t_fedavg": (0.70, 0.50, 0.60),
    "mifa": (0.90, 0.75, 0.80),
    "d_fedavg": (0.90, 0.50, 0.70),
}


def runs(rule, values):
    where = {"defense": rule, "stragglers": "temporary"}
    return [cell(where, seed, [v] * 4) for seed, v in enumerate(values)]


def shown(**keys):
    (table,) = Against(**keys)(study([c for r, v in TABLE.items() for c in runs(r, v)]))
    return {row[0].text: row[1] for row in table.rows}


def test_who_is_better_is_said_whoever_it_is():
    """Differences: .1 in every seed; -.1, -.15, -.1; -.1, .1, 0."""
    entries = shown()
    assert entries["t_fedavg"].text == "+10.0 [+10.0, +10.0] +"
    assert entries["mifa"].data["better"] == -1
    assert entries["mifa"].data["mean"] == pytest.approx(-11.6667, abs=1e-3)
    assert entries["d_fedavg"].text.endswith("~") and abs(entries["d_fedavg"].data["mean"]) < 1e-9


def test_where_less_is_better_the_sign_turns_round():
    assert METRICS["error"].better == "low"
    entries = shown(measure="error")
    assert entries["t_fedavg"].data["mean"] == pytest.approx(-10)
    assert entries["t_fedavg"].data["better"] == 1 and entries["mifa"].data["better"] == -1


def test_only_seeds_that_both_have_are_compared():
    ours, theirs = runs("hieavg", (0.8, 0.6)), runs("mifa", (0.7, 0.1))[:1]
    (table,) = Against()(study([*ours, *theirs]))
    assert table.rows[0][1].data["mean"] == pytest.approx(10.0)
    missing = cell({"defense": "mifa", "stragglers": "temporary"}, 0, [], status="missing")
    (table,) = Against()(study([*ours, missing]))
    assert table.rows[0][1].text == "—"


def test_a_study_without_the_rule_has_no_such_table():
    assert Against()(study([*runs("mifa", (0.7,)), *runs("t_fedavg", (0.7,))])) == []


def test_intervals_hold_the_mean_and_shrink_with_seeds():
    rng = np.random.default_rng(0)
    for n in (1, 3, 30):
        mean, low, high = interval(rng.standard_normal(n))
        assert low <= mean <= high
    wide, narrow = (interval(rng.standard_normal(n)) for n in (5, 200))
    assert narrow[2] - narrow[1] < wide[2] - wide[1]


def test_one_seed_has_a_difference_and_no_interval():
    (table,) = Against()(study([*runs("hieavg", (0.8,)), *runs("mifa", (0.7,))]))
    assert table.rows[0][1].text == "+10.0" and "better" not in table.rows[0][1].data
