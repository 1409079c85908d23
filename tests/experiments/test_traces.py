"""Curves among rows: drawn by figure and panel, and never printed as a table."""

import json

from experiments import figures, report, results
from experiments.traces import is_trace, traces


def curve(panel, line, **more):
    return {"figure": "reaction", "panel": panel, "line": line, "x": [0, 1], "y": [1, 3]} | more


def drawn(*rows):
    return traces(rows)["reaction"]


def test_one_panel_each_and_one_legend():
    figure = drawn(curve("a", "one"), curve("a", "two"), curve("b", "one", scale="log"))
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == ["a", "b"]
    assert [len(axes.lines) for axes in panels] == [2, 1]
    assert panels[1].get_yscale() == "log" and panels[0].get_yscale() == "linear"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]


def test_a_line_looks_alike_in_every_panel():
    figure = drawn(curve("a", "one"), curve("a", "two"), curve("b", "two"))
    first, second = figure.axes[0].lines[1], figure.axes[1].lines[0]
    assert first.get_color() == second.get_color()
    assert first.get_linestyle() == second.get_linestyle()


def test_of_several_seeds_the_first_is_drawn():
    figure = drawn(curve("a", "one"), curve("a", "one", y=[9, 9]))
    assert list(figure.axes[0].lines[0].get_ydata()) == [1, 3]


def test_a_mark_is_a_point():
    figure = drawn(curve("a", "one", mark=[0.5, 2.0]))
    assert list(figure.axes[0].lines[1].get_xdata()) == [0.5]


def test_rows_without_a_figure_are_no_curves():
    assert not is_trace({"rule": "a"}) and traces([{"rule": "a"}]) == {}


def test_a_report_prints_rows_and_draws_curves(tmp_path):
    rows = [{"rule": "a", "value": 1.0}, curve("a", "one")]
    index = {"name": "games", "axes": {}, "cells": [], "report": {"figures": []}, "rows": rows}
    (tmp_path / "study.json").write_text(json.dumps(index))
    page = report.write(results.load(tmp_path)).read_text()
    assert "| a |" in page and "figures/reaction.png" in page and "panel" not in page
    assert (tmp_path / "figures" / "reaction.pdf").stat().st_size > 1000


def test_same_curves_same_bytes(tmp_path):
    for name in ("first", "second"):
        figures.save(drawn(curve("a", "one")), tmp_path, name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_long_names_fit_below_the_panels():
    """Four names of 30 letters in one panel of 3.3 inches: one below the other."""
    names = [f"{i} a name of some thirty letters" for i in range(4)]
    figure = drawn(*(curve("a", name) for name in names))
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
