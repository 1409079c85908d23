"""A study as tables."""

import pytest

from experiments.captions import label
from experiments.tables import Long, Matrix, external
from fedalign.core.errors import ConfigError, UnknownNameError
from tests.experiments.synthetic_study import cell, grid, study

SPACES = {"fedavg": "model", "krum": "update"}


def two_by_two(**more):
    return grid(
        {"fedavg": {"none": 95, "neg": 10}, "krum": {"none": 90, "neg": 88}},
        seeds=(0, 1), spaces=SPACES, spread=1.0, **more,
    )  # fmt: skip


def texts(table):
    return [[entry.text for entry in row] for row in table.rows]


def bold(table):
    return [[entry.best for entry in row[1:]] for row in table.rows]


def test_mean_and_std_over_two_seeds():
    """Seeds a and a + 1: mean a + 0.5, population std 0.5."""
    (table,) = Matrix()(two_by_two())
    assert list(table.header) == ["defense", "none", "neg"]
    assert texts(table) == [
        ["fedavg (M)", "95.5±0.5", "10.5±0.5"],
        ["krum (U)", "90.5±0.5", "88.5±0.5"],
    ]
    assert bold(table) == [[True, False], [False, True]]


def test_rows_and_columns_keep_the_order_asked_for():
    made = two_by_two()
    turned = study(made.cells[::-1], {"attack": ("neg", "none"), "defense": ("krum", "fedavg")})
    (table,) = Matrix()(turned)
    assert list(table.header) == ["defense", "neg", "none"]
    assert [row[0] for row in texts(table)] == ["krum (U)", "fedavg (M)"]


def test_the_error_is_what_is_missing_to_a_hundred_and_low_is_best():
    (table,) = Matrix(metric="error")(two_by_two())
    assert texts(table)[0][1:] == ["4.5±0.5", "89.5±0.5"]
    assert bold(table) == [[True, False], [False, True]]


def test_where_rows_are_attacks_the_strongest_is_bold():
    (table,) = Matrix(rows="attack", columns="defense")(two_by_two())
    assert list(table.header) == ["attack", "fedavg (M)", "krum (U)"]
    assert bold(table) == [[False, False], [True, True]]


@pytest.mark.parametrize("direction, expected", [("none", 0), ("low", 2), ("high", 2)])
def test_the_direction_can_be_chosen(direction, expected):
    (table,) = Matrix(direction=direction)(two_by_two())
    assert sum(map(sum, bold(table))) == expected


def test_equal_means_are_all_bold_and_a_column_of_equals_has_no_best():
    made = grid({"a": {"x": 90.01, "y": 50}, "b": {"x": 90.04, "y": 50}, "c": {"x": 80, "y": 50}})
    (table,) = Matrix()(made)
    assert bold(table) == [[True, False], [True, False], [False, False]]


def test_failed_and_missing_cells_are_shown_as_such():
    a, b = {"attack": "none", "defense": "fedavg"}, {"attack": "neg", "defense": "fedavg"}
    c, d = {"attack": "la", "defense": "fedavg"}, {"attack": "mb", "defense": "fedavg"}
    made = study(
        [
            cell(a, 0, 0.95), cell(a, 1, status="failed", reason="out of memory"),
            cell(b, 0, status="failed", reason="boom"), cell(b, 1, status="failed", reason="boom"),
            cell(c, 0, status="missing"), cell(c, 1, status="missing"),
            cell(d, 0, 0.5), cell(d, 1, status="missing"),
        ]
    )  # fmt: skip
    (table,) = Matrix()(made)
    assert texts(table)[0] == ["fedavg", "95.0", "failed", "—", "50.0"]
    assert [entry.notes for entry in table.rows[0]] == [(), (1,), (2,), (), (3,)]
    assert list(table.notes) == [
        "Seed 1 failed: out of memory",
        "All seeds failed: boom",
        "Not all seeds are there: only 0.",
    ]


def test_cells_that_were_never_planned_are_missing():
    made = study([cell({"attack": "none", "defense": "krum"})],
                 {"attack": ("none", "neg"), "defense": ("krum",)})  # fmt: skip
    assert texts(Matrix()(made)[0])[0] == ["krum", "90.0", "—"]


def test_not_measured_is_not_missing():
    (table,) = Matrix(metric="tpr")(two_by_two())
    assert texts(table)[0][1:] == ["n/a", "75±0"]


def test_the_caption_says_what_how_many_and_in_which_space():
    assert Matrix()(two_by_two())[0].caption == (
        "Accuracy in %, mean of the last 3 rounds; n = 20, 5 rounds; mean ± population std over "
        "seeds 0, 1. Bold: highest of its column. (M)/(U): the rule tests models/updates; compare "
        "rows of one space only."
    )
    assert "(M)/(U)" not in Matrix()(grid({"krum": {"none": 90}}))[0].caption


def test_numbers_carry_the_interval_from_three_seeds_up():
    three = grid({"krum": {"none": 90}}, seeds=(0, 1, 2), spread=3.0)
    data = Matrix()(three)[0].rows[0][1].data
    assert data["iqm"] == pytest.approx(93.0) and data["low"] < 93.0 < data["high"]
    assert "iqm" not in Matrix()(two_by_two())[0].rows[0][1].data


def test_other_axes_become_tables_of_their_own():
    cells = [
        cell({"attack": a, "defense": "krum", "partition": p}, 0, v)
        for p, v in (("iid", 0.9), ("classes", 0.7)) for a in ("none", "neg")
    ]  # fmt: skip
    tables = Matrix()(study(cells))
    assert [t.name for t in tables] == ["main__partition-iid", "main__partition-classes"]
    assert [texts(t)[0][1] for t in tables] == ["90.0", "70.0"]
    assert "partition = classes" in tables[1].caption


def test_any_axis_can_be_a_row_or_a_column():
    cells = [cell({"rho": r, "defense": "krum"}, 0, v) for r, v in (("0.1", 0.5), ("0.5", 0.6))]
    (table,) = Matrix(rows="rho", columns="defense")(study(cells))
    assert texts(table) == [["0.1", "50.0"], ["0.5", "60.0"]]


def test_a_rule_measured_in_both_spaces_says_so():
    cells = [cell({"defense": "spp"}, s, space=space) for s, space in ((0, "model"), (1, "update"))]
    assert label(study(cells), "defense", "spp") == "spp (M/U)"


def test_a_study_of_one_run():
    choices = {"attack": "neg", "defense": "krum"}
    made = study([cell({}, 0, 0.9, choices=choices, space="update")], {})
    (table,) = Long(("accuracy", "fpr"))(made)
    assert texts(table) == [["made_up", "90.0", "0"]] and table.header[0] == "run"
    assert "; attack neg, defense krum (U); n = 20, 5 rounds; seed 0." in table.caption


def test_the_long_table_names_every_axis():
    (table,) = Long(("accuracy",))(two_by_two())
    assert list(table.header) == ["attack", "defense", "accuracy"] and table.labels == 2
    assert texts(table)[1] == ["none", "krum (U)", "90.5±0.5"]
    assert "(M)/(U)" in table.caption


def of_three_axes():
    """norm_filter has no rho: the same run stands for all its values."""
    rows = [("norm_filter", "—", 0.4), ("spp", "0.1", 0.5), ("spp", "0.5", 0.6)]
    cells = [
        cell({"defense": d, "attack": a, "rho": r}, 0, v)
        for d, r, v in rows for a in ("none", "neg")
    ]  # fmt: skip
    axes = {"attack": ("none", "neg"), "defense": ("norm_filter", "spp"), "rho": ("0.1", "0.5")}
    return study(cells, axes)


def test_several_axes_make_rows_of_their_combinations():
    (table,) = Matrix(rows=["defense", "rho"])(of_three_axes())
    assert list(table.header) == ["defense", "rho", "none", "neg"] and table.labels == 2
    assert [row[:3] for row in texts(table)] == [
        ["norm_filter", "—", "40.0"], ["spp", "0.1", "50.0"], ["spp", "0.5", "60.0"],
    ]  # fmt: skip
    assert [row[2].best for row in table.rows] == [False, False, True]


def test_a_parameter_as_columns_repeats_the_runs_it_does_not_reach_and_says_so():
    (table,) = Matrix(rows=["defense", "attack"], columns=["q", "rho"])(of_three_axes())
    assert texts(table) == [
        ["norm_filter", "none", "40.0", "40.0"], ["norm_filter", "neg", "40.0", "40.0"],
        ["spp", "none", "50.0", "60.0"], ["spp", "neg", "50.0", "60.0"],
    ]  # fmt: skip
    assert [row[1].notes for row in table.rows] == [(1,), (1,), (), ()]
    assert list(table.notes) == ["rho does not reach this row: one run, the same in every column."]
    assert "Columns: rho." in table.caption and "Bold" not in table.caption  # attacks in the rows


def test_a_parameter_as_panels_shows_the_runs_it_does_not_reach_in_each():
    tables = Matrix()(of_three_axes())
    assert [t.name for t in tables] == ["main__rho-0.1", "main__rho-0.5"]
    assert [[row[1] for row in texts(t)] for t in tables] == [["40.0", "50.0"], ["40.0", "60.0"]]


def test_several_metrics_share_a_cell():
    """4 sent, 1 accepted: 75 % rejected; 16 of 16 benign rows accepted; weight 5 %."""
    (table,) = Matrix(metric=("tpr", "fpr", "weight"))(two_by_two())
    assert texts(table)[0] == ["fedavg (M)", "n/a / 0 / n/a", "75 / 0 / 5.0"]
    data = table.rows[0][2].data
    assert (data["tpr mean"], data["fpr mean"], data["weight mean"]) == pytest.approx((75, 0, 5))
    assert "; mean over seeds 0, 1." in table.caption and "Bold" not in table.caption
    assert "neg tpr mean" in table.csv().splitlines()[0]


def test_whether_a_table_fits_a_study():
    assert Matrix().fits(two_by_two()) and not Matrix(rows="rho").fits(two_by_two())
    assert not Matrix(rows=["rho", "attack"]).fits(two_by_two())  # attack makes the columns
    assert Matrix(rows=["rho", "defense"]).fits(two_by_two())


def test_external_rows_are_the_table():
    rows = [{"rule": "krum", "n": 20, "ms": 1.23456}, {"rule": "median", "n": 20, "note": "slow"}]
    table = external(rows, "main", "speed")
    assert list(table.header) == ["rule", "n", "ms", "note"] and table.labels == 1
    assert texts(table) == [["krum", "20", "1.235", "—"], ["median", "20", "—", "slow"]]


def test_refusals_say_what_would_work():
    with pytest.raises(UnknownNameError, match=r"axis of this study .deffense.*defense"):
        Matrix(rows="deffense")(two_by_two())
    with pytest.raises(ConfigError, match="name two axes"):
        Matrix(rows="attack", columns="attack")
    with pytest.raises(UnknownNameError, match="metric"):
        Matrix(metric="precision")
    with pytest.raises(ConfigError, match="high, low or none"):
        Matrix(direction="up")
