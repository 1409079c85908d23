"""The Raft speed tables: rates are those of work that was really done; rivals are asked alike."""

import importlib.util
import json

import pytest

from experiments import compose
from experiments.benchmarks import raft
from experiments.benchmarks.server_processes import ServerProcesses, until
from fedalign.core.errors import ConfigError, FedalignError


def _rows(folder, **changes):
    config = {**compose.study(["scenario=speed_raft"]).cells[0].config, **changes}
    raft.raft(config, folder, {})
    return json.loads((folder / "rows.json").read_text())


def test_the_core_is_timed_entry_by_entry_and_in_batches(tmp_path):
    rows = {row["batch"]: row for row in _rows(tmp_path, part="core", entries=3000, repetitions=1)}
    assert rows[64]["entries per CPU s"] > 0 and rows[1]["entries per CPU s"] > 0
    assert rows[64]["goal"] == 200_000 and rows[1]["goal"] is None


def test_the_simulator_and_the_explorer_count_what_they_did(tmp_path):
    swarm, five = raft.simulator(3, seconds=4)
    assert swarm["runs"] == 3 and min(swarm["events"], five["events"]) > 500
    (row,) = _rows(tmp_path, part="explorer", states=2000)
    assert row["states"] >= 2000 and row["steps"] > row["states"]


def test_an_unknown_part_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="part is one of core, simulator"):
        _rows(tmp_path, part="gpu")


def test_goals_are_ratios_of_the_rows_beside_them():
    def row(orderer, window, rate, p50):
        return {"orderer": orderer, "window": window, "entries/s": rate, "p50 ms": p50}

    rows = [
        row(name, window, rate * window, p50)
        for name, rate, p50 in (("ours", 100, 1.0), ("plain", 2, 100.0), ("tuned", 50, 1.2))
        for window in raft.WINDOWS
    ]
    goals = raft._process_goals(rows)
    assert [goal["ratio"] for goal in goals] == [100, 1.2, 50, 2, 2]
    assert [goal["met"] for goal in goals] == [True, False, True, True, True]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pysyncobj") is None, reason="pip install pysyncobj")
def test_three_processes_each_answer_and_end_with_equal_ledgers():
    told = {}
    for name, start in (("ours", lambda: raft._ours(False)), ("rival", lambda: raft._rival({}))):
        with start() as servers:
            leader = servers.leader(30.0)
            told[name] = servers.ask(leader, do="load", window=1, seconds=1.0, bytes=100)
            assert raft._end_equal(servers)
    assert told["ours"]["p50_ms"] > 0 and told["rival"]["p50_ms"] > 0
    assert told["ours"]["refused"] == told["rival"]["refused"] == 0


def test_a_server_that_ends_while_asked_is_named():
    with (
        ServerProcesses(
            "experiments.benchmarks.raft_server", {7: {"id": 7, "addresses": {}}}
        ) as one,
        pytest.raises(FedalignError, match=r"Server 7 of .* ended while it was asked"),
    ):
        one.ask(7, do="status")


def test_waiting_ends_with_what_was_waited_for():
    with pytest.raises(FedalignError, match=r"Waited 0.05 s for rain"):
        until(lambda: None, 0.05, "rain")
