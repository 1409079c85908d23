"""How long a rule suffers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.recovery import Recovery, rounds_to_recover
from fedalign.core.errors import UnknownNameError
from tests.experiments.synthetic_study import cell, study

ONCE = {"attack_start": 2, "attack_rounds": 1}
CLEAN = [0.50, 0.60, 0.70, 0.80, 0.90, 0.90, 0.90, 0.90]
HIT = [0.50, 0.20, 0.50, 0.78, 0.89, 0.85, 0.90, 0.90]


def run(attack, accuracy, seed=0, defense="krum", config=ONCE, **more):
    return cell({"attack": attack, "defense": defense}, seed, accuracy, config=config, **more)


def back(accuracy, config=ONCE, clean=CLEAN):
    return rounds_to_recover(run("neg", accuracy, config=config), run("none", clean))


def texts(cells, axes=None):
    (table,) = Recovery()(study(cells, axes))
    return [[entry.text for entry in row] for row in table.rows], list(table.notes)


def test_the_first_round_within_a_point_counts_even_if_it_is_lost_again():
    """Behind by 40, 20, 2, 1, 5, 0: attacked in round 2, one point behind in round 5."""
    assert back(HIT) == 3.0


def test_an_attack_without_effect_needs_no_recovery():
    assert back(CLEAN) == 0.0
    assert back([0.99] * 8) == 0.0  # better than unattacked


def test_never_and_not_measured():
    assert back([0.5, *[0.1] * 7]) == np.inf
    assert np.isnan(back([0.5, *[np.nan] * 7]))
    assert np.isnan(back(HIT, {"attack_start": 2, "attack_rounds": None}))


def test_rounds_count_from_the_last_attacked_one():
    """Rounds 2 to 4 are attacked; near again in round 5."""
    assert back(HIT, {"attack_start": 2, "attack_rounds": 3}) == 1.0


def test_rounds_without_evaluation_are_passed_over():
    """Round 5 was not evaluated, round 6 is five points behind, round 7 is level."""
    assert back([*HIT[:4], np.nan, *HIT[5:]]) == 5.0


@given(st.lists(st.floats(0, 1), min_size=8, max_size=8), st.floats(0, 20), st.floats(0, 20))
def test_who_asks_for_less_waits_no_longer(accuracy, a, b):
    attacked, clean = run("neg", accuracy), run("none", CLEAN)
    near, far = (rounds_to_recover(attacked, clean, within) for within in sorted((a, b)))
    assert far <= near and (near == np.inf or near in range(7))


def test_the_table_row_by_row():
    """t0 = 2, t0 + 5 = 7; the end is the mean of the last three rounds."""
    rows, notes = texts([run("none", CLEAN), run("neg", HIT), run("la", [0.5, *[0.1] * 7])])
    assert rows == [
        ["krum", "none", "60.0", "90.0", "90.0", "—"],
        ["krum", "neg", "20.0", "90.0", "88.3", "3"],
        ["krum", "la", "10.0", "10.0", "10.0", "never"],
    ]
    assert not notes


def test_seeds_that_never_recover_are_counted_apart():
    """Seeds 0 and 1 need 3 and 0 rounds: 1.5 ± 1.5; seed 2 never."""
    lines = {0: HIT, 1: CLEAN, 2: [0.5, *[0.1] * 7]}
    cells = [run("none", CLEAN, s) for s in lines] + [run("neg", v, s) for s, v in lines.items()]
    (table,) = Recovery()(study(cells))
    entry = table.rows[1][-1]
    assert entry.text == "1.5±1.5, never in 1 of 3"
    assert (entry.data["mean"], entry.data["seeds"], entry.data["never"]) == (1.5, 2, 1)


def test_each_rule_and_seed_is_compared_with_its_own_unattacked_run():
    worse = [x - 0.3 for x in CLEAN]
    rows, _ = texts([
        run("none", CLEAN), run("neg", worse),
        run("none", worse, defense="median"), run("neg", worse, defense="median"),
    ])  # fmt: skip
    assert [row[-1] for row in rows] == ["—", "never", "—", "0"]


def test_what_cannot_be_said_says_why():
    endless = {"attack_start": 2, "attack_rounds": None}
    rows, notes = texts([run("neg", HIT), run("la", HIT, config=endless)])
    assert [row[-1] for row in rows] == ["n/a", "n/a"]
    assert notes == [
        "Needs attack=none with the same rule and seed.",
        "The attack does not end, so nothing recovers.",
    ]
    rows, notes = texts([run("none", CLEAN[:6]), run("neg", HIT[:6])])
    assert [row[3] for row in rows] == ["n/a", "n/a"]
    assert notes == ["The run ends before round t0+5."]


def test_failed_and_missing_runs_are_shown_as_such():
    gone = run("la", 0.9, status="missing")
    rows, notes = texts([run("none", CLEAN), run("neg", 0.9, status="failed", reason="b"), gone])
    assert rows[1][2:] == ["failed", "failed", "failed", "—"]
    assert rows[2][2:] == ["—", "—", "—", "—"] and notes == ["Failed: b"]


def test_the_caption_and_other_axes():
    cells = [
        cell({"attack": "neg", "defense": "krum", "n": n}, 0, HIT, config=ONCE) for n in ("5", "9")
    ]
    tables = Recovery()(study(cells))
    assert [t.name for t in tables] == ["oneshot__n-5", "oneshot__n-9"]
    assert "attacked in round 2 only; n = 5; seed 0." in tables[0].caption
    assert "within 1 point of the same rule and seed unattacked" in tables[0].caption
    with pytest.raises(UnknownNameError, match="axis of this study 'attack'"):
        Recovery()(study([cell({"defense": "krum"})]))
