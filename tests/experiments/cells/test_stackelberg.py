"""The two game scenarios as a user runs them, small: theory's order holds on their rows."""

import json

import numpy as np
import pytest

from experiments import compose
from experiments.build import locate
from experiments.cells.stackelberg import draw_types
from fedalign.core.errors import ConfigError


def rows_of(tmp_path, scenario, *words):
    study = compose.study([f"scenario={scenario}", "clients=4", "seed=0", *words])
    found = []
    for cell in study.cells:
        locate(study.cell)(dict(cell.config), tmp_path / cell.run_id, {"source": "test"})
        folder = tmp_path / cell.run_id
        found += json.loads((folder / "rows.json").read_text())
        assert (folder / "digest.txt").exists()
    return found


@pytest.fixture(scope="module")
def stackelberg(tmp_path_factory):
    return rows_of(tmp_path_factory.mktemp("games"), "stackelberg")


@pytest.fixture(scope="module")
def train_mine(tmp_path_factory):
    return rows_of(tmp_path_factory.mktemp("games"), "train_mine", "points=9")


def table(rows, name):
    return [r for r in rows if "figure" not in r and r.get("table", "main") == name]


def test_four_rules_per_budget(stackelberg):
    main = table(stackelberg, "main")
    assert [(r["budget"], r["rule"]) for r in main] == [
        (b, r)
        for b in (10.0, 1.0)
        for r in ("complete", "incomplete", "certainty equivalent", "uniform")
    ]
    for row in main:
        assert row["IR share"] == 1.0 and 0 < row["efficiency"] <= 1 + 1e-6
        assert row["welfare"] == pytest.approx(row["MO utility"] + row["clients' utility"])


def test_knowing_more_pays_on_average_and_two_prices_beat_one(stackelberg):
    order = table(stackelberg, "order")
    assert len(order) == 2
    for row in order:
        assert all(value for value in row.values() if isinstance(value, bool)), row
        assert row["certainty eq. expects"] >= row["it gets on average"]


def test_complete_information_is_best_in_the_drawn_market(stackelberg):
    for budget in (10.0, 1.0):
        values = {
            r["rule"]: r["MO utility"] for r in table(stackelberg, "main") if r["budget"] == budget
        }
        assert max(values, key=values.__getitem__) == "complete"


def test_everything_is_certified_and_says_how(stackelberg):
    proofs = table(stackelberg, "certificates")
    assert {r["status"] for r in proofs} == {"CERTIFIED"}
    assert {r["method"] for r in proofs} == {"closed_form", "search"}


def test_reaction_curves_peak_at_the_marked_price(stackelberg):
    peaks = [r for r in stackelberg if r.get("panel", "").startswith("MO utility over")]
    assert len(peaks) == 4
    for row in peaks:
        assert max(row["y"]) <= row["mark"][1] + 1e-6 * abs(row["mark"][1])
        at = row["x"][int(np.argmax(row["y"]))]
        assert at == pytest.approx(row["mark"][0], abs=2 * (row["x"][1] - row["x"][0]))


def test_the_contest_with_seen_and_hidden_types(train_mine):
    status = {r["rule"]: r["status"] for r in table(train_mine, "certificates")}
    assert status == {
        "complete": "CERTIFIED", "complete, budgets": "CERTIFIED",
        "Bayesian": "CERTIFIED (interim)", "mean field": "UNCERTIFIED (interim)",
    }  # fmt: skip
    for row in table(train_mine, "main"):
        assert 0 < row["efficiency"] <= 1 + 1e-6


def test_an_uncertified_answer_stays_in_the_table(train_mine):
    assert "mean field" in [r["rule"] for r in table(train_mine, "main")]


def test_a_miners_answer_passes_through_its_equilibrium(train_mine):
    curves = [r for r in train_mine if r.get("figure") == "contest"]
    assert curves
    for row in curves:
        found = np.interp(row["mark"][0], row["x"], row["y"])
        assert found == pytest.approx(row["mark"][1], rel=0.02, abs=0.02)


def test_types_are_drawn_by_seed_and_number_of_clients():
    config = dict(compose.study(["scenario=stackelberg", "seed=0"]).cells[0].config)
    fields, p, counts = draw_types(config)
    assert counts.sum() == config["clients"] and p.sum() == pytest.approx(1.0)
    assert set(fields) == {"quality", "efficiency", "training_cost", "mining_cost"}
    assert np.array_equal(draw_types(config)[2], counts)
    kinds = {name: {**kind, "share": -1.0} for name, kind in config["types"].items()}
    with pytest.raises(ConfigError, match="Shares of types"):
        draw_types({**config, "types": kinds})


def test_one_client_is_shown_as_no_contest(tmp_path):
    rows = rows_of(tmp_path, "train_mine", "clients=1", "points=5")
    proofs = table(rows, "certificates")
    assert [r["status"] for r in proofs] == ["NO_CONTEST", "NO_CONTEST"]
    assert [r["mined"] for r in table(rows, "main")] == [0.0, 0.0]


def test_many_clients_play_the_mean_field_alone(tmp_path):
    rows = rows_of(tmp_path, "train_mine", "clients=40", "points=5")
    status = {r["rule"]: r["status"] for r in table(rows, "certificates")}
    assert status.keys() == {"complete", "complete, budgets", "mean field"}
    assert status["mean field"] == "UNCERTIFIED (not checked)"
