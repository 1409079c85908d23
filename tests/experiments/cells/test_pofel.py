"""The PoFEL scenarios as a user runs them, small."""

import json

import numpy as np
import pytest

from experiments import compose
from experiments.build import locate
from experiments.cells.pofel_fairness import jain


def rows_of(tmp_path, scenario, *words):
    study = compose.study([f"scenario={scenario}", *words])
    found = []
    for cell in study.cells:
        locate(study.cell)(dict(cell.config), tmp_path / cell.run_id, {"source": "test"})
        found += json.loads((tmp_path / cell.run_id / "rows.json").read_text())
    return found


def table(rows, name="main"):
    return [r for r in rows if "figure" not in r and r.get("table", "main") == name]


def test_bribery_equals_the_closed_forms(tmp_path):
    """Five servers; whole rounds against the formulas, floors of predictions included."""
    rows = rows_of(tmp_path, "pofel_bribery", "servers=5", "variant=prelec,anchored",
                   "strategy=naive,copycat,optimal")  # fmt: skip
    main = table(rows)
    assert len(main) == 2 * 3 * 2
    for row in main:
        assert row["off by"] < 1e-6 and row["leader kept"] and row["model kept"], row
        pays = row["variant"] != "anchored" and row["strategy"] != "naive"
        assert row["bribe pays"] == pays, row
        if row["variant"] != "collapsed":  # there an honest vote earns nothing to lose
            assert (row["break-even bribe"] > 0) == (row["variant"] == "anchored")
    drawn = [r for r in rows if r.get("figure") == "bribery"]
    assert len(drawn) == 6 and drawn[0]["x"] == [0.2, 0.4]


def test_audited_votes_cost_all_that_a_vote_can(tmp_path):
    main = table(rows_of(tmp_path, "pofel_bribery", "servers=4", "variant=audited"))
    assert {row["coalition"] for row in main} == {-3.0}


def test_plagiarism_pays_only_beyond_the_threshold(tmp_path):
    rows = rows_of(tmp_path, "pofel_plagiarism", "rounds=1", "seed=0", "delta=0.01",
                   "servers=4", "d=128", "noise=[0.0,0.003,0.03]")  # fmt: skip
    way = {row["way"]: row for row in table(rows)}
    assert way["honest"]["earns by the model"]
    for name in ("copied commitment", "copied reveal"):
        assert not way[name]["in the round"] and not way[name]["earns by the model"]
    assert way["copied commitment"]["strikes"] == "late_reveal"
    assert not way["no work"]["earns by the model"]
    assert not way["near copy, noise 0.003"]["earns by the model"]
    assert way["near copy, noise 0.03"]["earns by the model"]
    assert all(row["only the copier struck"] for row in table(rows))


def test_fairness_rotates_leaders_where_told_to(tmp_path):
    rows = rows_of(tmp_path, "pofel_fairness", "rounds=8", "seed=0", "fairness=none,cooldown",
                   "servers=5", "cooldown=2")  # fmt: skip
    none, cooldown = table(rows)
    assert none["Jain of leaderships"] < cooldown["Jain of leaderships"]
    assert cooldown["longest row"] == 1 and none["strikes"] == cooldown["aborted"] == 0
    assert sum(r["pay"] for r in table(rows, "servers")) == pytest.approx(2.0)


def test_jain_by_hand():
    """(1 + 3)² / (2 (1 + 9)) = 0.8."""
    assert jain([1, 3]) == pytest.approx(0.8)
    assert jain(np.ones(5)) == 1.0 and jain([7, 0, 0, 0]) == 0.25


@pytest.mark.slow
def test_every_attack_ends_as_expected(tmp_path):
    rows = table(rows_of(tmp_path, "pofel_security", "seed=0", "messages=20000"))
    assert len(rows) > 60
    assert not [row for row in rows if not row["holds"]]
