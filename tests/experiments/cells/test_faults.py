"""The cell of `scenario=raft_faults`: what it counts, what it says of a failure, what it refuses."""

import json

import pytest

from consensus.raft import leading
from consensus.raft.swarm import FAULTS, draw, play
from experiments import compose
from experiments.cells.faults import raft_faults
from fedalign.core.errors import ConfigError, UnknownNameError


def _rows(folder, **changes):
    config = {**compose.study(["scenario=raft_faults"]).cells[0].config, **changes}
    raft_faults(config, folder, {})
    return json.loads((folder / "rows.json").read_text())


def test_the_table_adds_up(tmp_path):
    """Events and entries are those of the schedules played one by one; no violations."""
    rows = _rows(tmp_path, seeds=6)
    total, faults = rows[0], [row for row in rows if row.get("table") == "faults"]
    outcomes = [play(draw(seed)) for seed in range(6)]
    assert total["events"] == sum(outcome.events for outcome in outcomes)
    assert total["entries"] == sum(outcome.committed for outcome in outcomes)
    assert total["violations"] == 0 and total["progress after heal"] == "6 of 6"
    assert total["faults"] == sum(row["times"] for row in faults)
    assert 0 < len(faults) <= len(FAULTS)
    assert (tmp_path / "digest.txt").exists()


def test_bft_schedules_have_liars_who_are_found_out(tmp_path):
    rows = _rows(tmp_path, seeds=5, orderer="bft")
    assert rows[0]["violations"] == 0 and rows[0]["progress after heal"] == "5 of 5"
    liars = [row for row in rows if row.get("table") == "liars"]
    assert liars and sum(row["contradictions proved"] for row in liars) > 0


def test_an_unknown_orderer_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="paxos"):
        _rows(tmp_path, orderer="paxos")


def test_other_seeds_have_another_trace(tmp_path):
    one, other = _rows(tmp_path / "a", seeds=3)[0], _rows(tmp_path / "b", seeds=3, first_seed=3)[0]
    assert one["trace"] != other["trace"]
    assert one["trace"] == _rows(tmp_path / "c", seeds=3)[0]["trace"]


def test_a_failing_seed_is_a_row_with_its_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(leading, "maybe_commit", lambda raft: False)
    rows = _rows(tmp_path, seeds=1, first_seed=4)
    assert rows[0]["violations"] == 1 and rows[0]["progress after heal"] == "0 of 1"
    command = "Replay: python -m consensus.raft.swarm 4"
    assert rows[-1]["what"].endswith(command) and command in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [{"seeds": 0}, {"first_seed": -1}, {"simulated_s": 1.0}])
def test_what_cannot_be_played_is_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match="raft_faults plays seeds >= 1"):
        _rows(tmp_path, **wrong)
