"""The cell of `scenario=mta`: every method meets every unseen instance and violates nothing."""

import json

import pytest

from experiments import compose
from experiments.cells.mta import mta


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    study = compose.study(["scenario=mta", "preset=tiny"])
    tiny = {
        **study.cells[0].config, "tasks": 10, "servers": 3, "instances": 2,
        "transfer": [[10, 3], [8, 4]], "transfer_instances": 1,
    }  # fmt: skip
    tiny["training"] = {**tiny["training"], "updates": 3, "instances": 2, "rollouts": 2}
    folder = tmp_path_factory.mktemp("mta")
    mta(tiny, folder, {})
    return json.loads((folder / "rows.json").read_text())


def test_the_presets_reach_the_training(rows):
    study = compose.study(["scenario=mta", "preset=tiny"])
    assert [cell.config["training"]["updates"] for cell in study.cells] == [20, 20]
    assert [cell.config["servers"] for cell in study.cells] == [10, 20]


def test_every_method_meets_every_instance(rows):
    main = [row for row in rows if "table" not in row and "figure" not in row]
    methods = {
        "MILP", "LP bound", "policy", "policy, one try", "tabular Q", "tabular Q, lr .1",
        "local search", "greedy by price", "price density", "greedy", "random",
    }  # fmt: skip
    assert {row["method"] for row in main} == methods
    assert len(main) == 2 * len(methods)
    assert {row["tasks x servers"] for row in main} == {"10 x 3"}


def test_ratios_lie_where_they_must(rows):
    for row in (row for row in rows if "of MILP" in row):
        if row["method"] == "LP bound":
            assert row["of MILP"] >= 1 - 1e-9
            continue
        assert 0 <= row["of bound"] <= 1 + 1e-9
        assert row["late"] == row["overfull"] == 0


def test_servers_shares_are_shares(rows):
    shares = [row for row in rows if row.get("table") == "servers"]
    assert len(shares) == 2 * 10  # every method but the bound, on two instances
    for row in shares:
        assert 0 <= row["served"] <= 10
        assert 0 <= row["utilisation"] <= 1 and 1 / 3 - 1e-9 <= row["Jain"] <= 1 + 1e-9


def test_other_sizes_leave_out_the_one_trained_on(rows):
    abroad = [row for row in rows if row.get("table") == "other sizes"]
    assert {row["tasks x servers"] for row in abroad} == {"8 x 4"}
    assert {row["trained on"] for row in abroad} == {"10 x 3"}


def test_the_learning_curve_is_there(rows):
    (curve,) = (row for row in rows if row.get("figure") == "learning")
    assert len(curve["x"]) == len(curve["y"]) == 1  # three updates, one mean
    assert 0 < curve["y"][0] < 2
