"""One row per defense."""

import pytest

from experiments.per_defense import Ratios, Summary
from fedalign.core.errors import UnknownNameError
from tests.experiments.synthetic_study import cell, grid, study


def made(seeds=(0, 1, 2)):
    row = {"none": 95, "la": 75, "faker_norm": 15, "neg": 10, "rejected": 94}
    safe = {"none": 90, "la": 89, "faker_norm": 91, "neg": 90, "rejected": 90}
    return grid({"fedavg": row, "krum": safe}, seeds=seeds, spaces={"fedavg": "model"})


def texts(table):
    return [[entry.text for entry in row] for row in table.rows]


def test_the_summary_row_by_row():
    """fedavg: attacks 75 and 15 three times each; of six values one goes at each end: 45."""
    (table,) = Summary()(made())
    assert texts(table)[0] == [
        "fedavg (M)", "95.0±0.0", "faker_norm", "15.0±0.0", "neg", "10.0±0.0", "94.0±0.0",
        "45.0 [45.0, 45.0]",
    ]  # fmt: skip
    assert texts(table)[1][2:4] == ["la", "89.0±0.0"]
    assert [row[3].best for row in table.rows] == [False, True]
    assert "not among the attacks" in table.caption


def test_the_ratio_row_by_row():
    """fedavg: (95 - 15) / (95 - 75) = 4; krum: Faker takes -1 point, so there is no ratio."""
    (table,) = Ratios()(made())
    assert texts(table)[0] == [
        "fedavg (M)", "faker_norm", "80.0±0.0", "la", "20.0±0.0", "4.00", "2.00", "2.00", "1.00",
    ]  # fmt: skip
    assert texts(table)[1][2] == "-1.0±0.0" and texts(table)[1][5] == "n/a"


def test_without_attacks_the_row_is_empty_not_wrong():
    only = grid({"krum": {"none": 90}})
    assert texts(Summary()(only)[0]) == [["krum", "90.0", "—", "—", "—", "—", "—", "—"]]
    assert texts(Ratios()(only)[0])[0][1:5] == ["—", "—", "—", "—"]


def test_attacks_that_failed_are_named_because_they_might_have_been_the_worst():
    cells = [
        cell({"attack": "none", "defense": "krum"}, 0, 0.9),
        cell({"attack": "la", "defense": "krum"}, 0, status="failed", reason="boom"),
    ]
    for table in (Summary()(study(cells))[0], Ratios()(study(cells))[0]):
        assert list(table.notes) == ["Failed or missing, so not counted: la."]
        assert table.rows[0][0].notes == (1,)


def test_other_axes_become_tables_of_their_own():
    cells = [
        cell({"attack": "la", "defense": "krum", "rho": r}, 0, v)
        for r, v in (("0.1", 0.9), ("0.5", 0.3))
    ]
    tables = Summary()(study(cells))
    assert [t.name for t in tables] == ["summary__rho-0.1", "summary__rho-0.5"]
    assert [texts(t)[0][3] for t in tables] == ["90.0", "30.0"]


@pytest.mark.parametrize("table", [Summary(), Ratios()])
def test_a_study_without_attacks_as_an_axis_is_refused(table):
    with pytest.raises(UnknownNameError, match="axis of this study 'attack'"):
        table(study([cell({"defense": "krum"})]))
