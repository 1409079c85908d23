"""Reading a study back from disk."""

import numpy as np
import pytest

from experiments.results import everywhere, grouped, load, manifest, panels
from fedalign.core.errors import DataError
from tests.experiments.synthetic_study import cell, grid, put_on_disk, study


def test_a_study_comes_back_as_it_was_written(tmp_path):
    made = grid({"krum": {"none": 90, "neg": 20}}, seeds=(1, 0), spaces={"krum": "update"})
    found = load(put_on_disk(tmp_path, made))
    assert found.name == "made_up" and found.folder == tmp_path
    assert found.axes == {"attack": ("none", "neg"), "defense": ("krum",)}
    assert [(c.axes["attack"], c.seed) for c in found.cells] == [
        ("none", 1), ("none", 0), ("neg", 1), ("neg", 0),
    ]  # fmt: skip
    first = found.cells[0]
    assert first.status == "done" and first.reason == "" and first.facts == {"space": "update"}
    assert first.folder == tmp_path / first.run_id and first.config["clients"] == 20
    for name, column in made.cells[0].rounds.items():
        np.testing.assert_array_equal(first.rounds[name], column)


def test_choices_come_back(tmp_path):
    made = study([cell({"attack": "none"}, choices={"data": "digits"})])
    found = load(put_on_disk(tmp_path, made)).cells[0]
    assert found.choices == {"data": "digits", "attack": "none"}


def test_the_seed_is_no_axis_and_values_are_text(tmp_path):
    folder = put_on_disk(tmp_path, study([cell({"rho": "0.5", "seed": "3"}, seed=3)]))
    found = load(folder)
    assert found.axes == {"rho": ("0.5",)} and found.cells[0].axes == {"rho": "0.5"}


def test_an_empty_field_is_nan(tmp_path):
    made = study([cell({"attack": "none"}, accuracy=[0.1, np.nan, 0.3])])
    accuracy = load(put_on_disk(tmp_path, made)).cells[0].rounds["accuracy"]
    np.testing.assert_array_equal(accuracy, [0.1, np.nan, 0.3])


def test_absent_and_damaged_runs_do_not_hide_the_others(tmp_path):
    made = grid({"krum": {"none": 90, "neg": 20, "la": 30, "mb": 40}})
    put_on_disk(tmp_path, made)
    gone, cut, empty, _ = (tmp_path / c.run_id / "rounds.csv" for c in made.cells)
    gone.unlink()
    cut.write_text(cut.read_text()[:-40])
    empty.write_text("round,accuracy\n")
    found = load(tmp_path).cells
    assert [c.status for c in found] == ["missing", "failed", "failed", "done"]
    assert "cut off" in found[1].reason and "no round" in found[2].reason
    assert not found[1].rounds


def test_a_failed_run_keeps_its_reason(tmp_path):
    made = study([cell({"attack": "none"}, status="failed", reason="client 3 crashed")])
    found = load(put_on_disk(tmp_path, made)).cells[0]
    assert (found.status, found.reason, dict(found.rounds)) == ("failed", "client 3 crashed", {})


def test_no_study_there_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"study\.json does not exist.*run_experiment"):
        load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", "\udcff"])
def test_a_damaged_study_file_is_named(tmp_path, text):
    (tmp_path / "study.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"study\.json"):
        manifest(tmp_path)


def test_panels_cut_along_the_axes_that_are_not_shown():
    cells = [
        cell({"attack": a, "defense": d, "rho": r}) for a in "xy" for d in "uv" for r in ("1", "2")
    ]
    cut = panels(study(cells), ("attack", "defense"))
    assert [fixed for fixed, _ in cut] == [{"rho": "1"}, {"rho": "2"}]
    assert all(c.axes["rho"] == "2" for c in cut[1][1]) and len(cut[1][1]) == 4
    assert len(panels(study(cells), ("attack", "defense", "rho"))) == 1


def test_a_run_that_a_parameter_does_not_reach_stands_at_all_its_values():
    cells = [cell({"defense": "krum", "rho": "—"})] + [
        cell({"defense": "spp", "rho": r}) for r in "12"
    ]
    made = study(cells, {"defense": ("krum", "spp"), "rho": ("1", "2")})
    spread = everywhere(made, cells, ["rho"])
    assert [(c.axes["defense"], c.axes["rho"]) for c in spread] == [
        ("krum", "1"), ("krum", "2"), ("spp", "1"), ("spp", "2"),
    ]  # fmt: skip
    assert everywhere(made, cells, ["defense"]) == tuple(cells)
    assert [len(part) for _, part in panels(made, ["defense"])] == [2, 2]


def test_groups_are_ordered_by_seed():
    cells = [cell({"attack": "x"}, seed) for seed in (2, 0, 1)]
    assert [c.seed for c in grouped(cells, ("attack",))["x",]] == [0, 1, 2]
