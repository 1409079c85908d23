"""Rows of several seeds as one: means, intervals, truths, words, worst cases."""

import json

import numpy as np

from experiments import report, results
from experiments.pooled import pooled

ROWS = [
    {"rule": rule, "seed": seed, "value": value + seed, "eps": 10.0**-seed, "held": seed != 2,
     "status": "CERTIFIED" if seed < 2 else "UNCERTIFIED", "same": 7.0, "gone": None}
    for rule, value in (("a", 1.0), ("b", 5.0))
    for seed in (0, 1, 2)
]  # fmt: skip


def table(rows=ROWS, worst=("eps",)):
    return pooled(rows, ["rule"], "seed", worst, "main", "Words")


def entry(column, row=0):
    made = table()
    return made.rows[row][list(made.header).index(column)]


def test_one_row_per_rule_and_no_seed_column():
    made = table()
    assert [row[0].text for row in made.rows] == ["a", "b"]
    assert "seed" not in made.header and made.labels == 1
    assert "over 3 x seed" in made.caption and "worst case of eps." in made.caption


def test_a_mean_and_its_interval():
    """1, 2, 3: mean 2; the interval lies inside and repeats with the same numbers."""
    data = entry("value").data
    assert data["mean"] == 2.0 and 1.0 <= data["low"] < 2.0 < data["high"] <= 3.0
    assert entry("value").text.startswith("2 [") and entry("value") == entry("value")
    assert entry("value", 1).data["mean"] == 6.0


def test_what_never_varies_has_no_interval():
    assert entry("same").text == "7"


def test_the_worst_seed_is_shown_where_asked():
    assert entry("eps").text == "1.0e+00" and entry("eps").data == {"max": 1.0}


def test_truths_are_counted_and_words_told_apart():
    assert entry("held").text == "2/3"
    assert entry("status").text == "2 CERTIFIED, 1 UNCERTIFIED"
    assert entry("gone").text == "—"


def test_numbers_that_are_missing_are_left_out():
    rows = [{"rule": "a", "seed": s, "v": v} for s, v in enumerate((1.0, np.nan, 3.0))]
    made = table(rows)
    assert made.rows[0][1].data["mean"] == 2.0
    nothing = table([{"rule": "a", "seed": s, "v": np.nan} for s in (0, 1)])
    assert nothing.rows[0][1].text == "n/a"


def test_one_seed_is_shown_as_it_is():
    made = table([{"rule": "a", "seed": 0, "v": 1.25}])
    assert made.caption == "Words" and made.rows[0][1].text == "1.25"


def test_a_report_pools_as_its_scenario_asks(tmp_path):
    node = {"title": "T", "figures": [], "pool": {
        "by": ["rule"], "over": "seed", "worst": ["eps"], "legend": {"main": "What it means."},
    }}  # fmt: skip
    index = {"name": "games", "axes": {}, "cells": [], "report": node, "rows": ROWS}
    (tmp_path / "study.json").write_text(json.dumps(index))
    page = report.write(results.load(tmp_path)).read_text()
    assert "over 3 x seed; worst case of eps. What it means." in page
    assert "| a | 2 [" in page and page.count("| a |") == 1


def test_a_measured_cell_is_neither_missing_nor_done(tmp_path):
    """It left rows and no rounds."""
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc" / "rows.json").write_text("[]")
    cells = [{"run_id": "abc", "status": "done"}, {"run_id": "def", "status": "done"}]
    (tmp_path / "study.json").write_text(json.dumps({"name": "games", "cells": cells}))
    assert [c.status for c in results.load(tmp_path).cells] == ["measured", "missing"]
