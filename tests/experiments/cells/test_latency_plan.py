"""The latency plan: real pilots, simulated Raft, and a K that both justify."""

import json

import numpy as np
import pytest

from experiments import compose
from experiments.cells import latency_plan as plan
from fedalign.federation.latency import Progress, RoundTime, majority_s

SMALL = ["scenario=latency_plan", "seed=0", "clients=10", "data.limit=300", "topology.edges=2",
         "partition.per_client=5", "pilots=[1,2,4]", "pilot_edge_rounds=8", "horizon=12",
         "link_ms=[1.0,200.0]"]  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    config = compose.study(SMALL).cells[0].config
    plan.latency_plan(config, folder, {"source": "test"})
    return json.loads((folder / "rows.json").read_text())


def of(rows, table):
    return [r for r in rows if r.get("table", "main") == table and "figure" not in r]


def test_the_closed_form_is_the_searched_one_and_slower_links_ask_for_no_fewer(rows):
    main = of(rows, "main")
    assert len(main) == 4 and all(r["K*"] == r["K* searched"] for r in main)
    after = [r for r in main if r["consensus"] == "after training"]
    assert after[0]["b in s"] < after[1]["b in s"] and after[0]["K*"] <= after[1]["K*"]
    assert all(r["seconds at K*"] <= r["seconds at K=1"] + 1e-9 for r in after)


def test_the_chosen_point_lies_on_its_curve(rows):
    curves = [r for r in rows if "figure" in r]
    assert curves
    for curve in curves:
        k, seconds = curve["mark"]
        assert curve["y"][curve["x"].index(k)] == pytest.approx(seconds)
        assert seconds == pytest.approx(min(curve["y"]))


def test_pilots_really_train():
    config = compose.study(SMALL).cells[0].config
    one, two = plan.pilot(config, 1), plan.pilot(config, 2)
    assert (len(one.losses), len(two.losses)) == (8, 4)
    assert one.losses[-1] < one.losses[0] and two.losses[0] < one.losses[0]
    assert one.edge_s == pytest.approx(two.edge_s) and one.upload_s > 0
    assert one.omega[1] == pytest.approx(one.losses[:2].mean())


def test_a_block_takes_a_majority_of_round_trips():
    """Five servers: two of four followers, there and back; a slow wire costs its transfer too."""
    quick = plan.consensus(5, 20.0, 1e3, seed=0)
    assert 1.5 * 0.02 < quick.append_s < 3 * 0.02 and quick.election_s >= 0.2
    assert plan.consensus(5, 20.0, 1e7, seed=0, blocks=3).append_s > quick.append_s + 0.1
    assert majority_s(0.04, 5) < quick.append_s  # exponential delays are shorter in the middle
    assert plan.consensus(5, 20.0, 1e3, seed=0) == quick


def test_where_no_k_meets_the_constraints_the_table_has_a_dash():
    """Consensus of 30 s beside edge rounds of 1 s needs K = 30, drift allows 9."""
    time, progress = RoundTime(1.0, 0.0, 30.0, True), Progress(1.0, 0.01)
    told = plan._plan(time, progress, 0.1, 5, 64)
    assert told["K*"] is told["K* searched"] is told["K for T=5"] is None
    assert plan._curve({"consensus": "x", "link in ms": 1.0}, time, progress, 0.1, 64) == []
    assert np.isfinite(told["seconds at K=1"])
