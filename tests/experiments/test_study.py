"""Studies: finished once, whatever happens; and what a user sees on the command line."""

import fcntl
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from experiments import cli, compose, preflight, study
from experiments.progress import Progress

ROOT = Path(__file__).parent.parent.parent
QUICK = ["clients=6", "rounds=2", "data.limit=90", "model=softmax"]


def run(tmp_path, *words):
    """A study in worker processes, as the command line runs it; returns (ledger, what was said)."""
    plan = compose.study([*QUICK, f"output_root={tmp_path}", *words])
    console = Console(file=io.StringIO(), width=200)
    ledger = study.run(plan, preflight.check(plan, console), Progress(console))
    return ledger, console.file.getvalue()


def test_finished_cells_of_the_same_code_are_reused_and_a_study_is_widened(tmp_path, monkeypatch):
    ledger, said = run(tmp_path, "attack=none,sign_flip", "defense=fedavg")
    assert (len(ledger.reasons), ledger.reused, ledger.failed) == (2, 0, 0)
    ledger, said = run(tmp_path, "attack=none,sign_flip", "defense=fedavg,median")
    assert (len(ledger.reasons), ledger.reused, ledger.failed) == (4, 2, 0)
    assert "2 already finished" in said and "4 of 4 cells" in said
    index = json.loads((tmp_path / "single/study.json").read_text())
    assert {cell["status"] for cell in index["cells"]} == {"done"}
    monkeypatch.setattr(study, "source_digest", lambda: "other code")
    ledger, said = run(tmp_path, "attack=none", "defense=fedavg")
    assert ledger.reused == 0 and "1 of them were finished by other code and are stale" in said
    assert run(tmp_path, "attack=none", "defense=median", "reuse=any")[0].reused == 1


def test_a_cell_that_breaks_does_not_stop_the_grid(tmp_path, monkeypatch):
    plan = compose.study([*QUICK, f"output_root={tmp_path}", "seed=0,1"])
    plan.cells[0].config["partition"] = {"_target_": "nowhere.Missing"}
    console = Console(file=io.StringIO(), width=200)
    ledger = study.run(plan, preflight.Checked({}), Progress(console))
    assert ledger.failed == 1 and len(ledger.reasons) == 2
    assert "failed: seed=0: ModuleNotFoundError" in console.file.getvalue()
    index = json.loads((tmp_path / "single/study.json").read_text())
    assert [cell["status"] for cell in index["cells"]] == ["failed", "done"]


def test_a_worker_that_is_killed_twice_is_reported_and_the_rest_goes_on(tmp_path):
    plan = compose.study([*QUICK, f"output_root={tmp_path}", "seed=0,1,2"])
    plan.cells[1].config["partition"] = {"_target_": "os._exit", "status": 9}
    console = Console(file=io.StringIO(), width=200)
    ledger = study.run(plan, preflight.Checked({}), Progress(console))
    reasons = [ledger.reasons[cell.run_id] for cell in plan.cells]
    assert reasons[1] == "its process was killed twice (out of memory?)"
    assert reasons[2] == ""


def test_two_studies_do_not_write_the_same_folder(tmp_path, capsys):
    folder = tmp_path / "single"
    folder.mkdir()
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert cli.main([*QUICK, f"output_root={tmp_path}"]) == 1
    assert "Another study is writing" in capsys.readouterr().err


def test_a_full_disk_stops_with_a_way_on(tmp_path, monkeypatch, capsys):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(study, "_play", full)
    assert cli.main([*QUICK, f"output_root={tmp_path}"]) == 1
    said = capsys.readouterr().err
    assert "disk is full: 0 of 1 cells" in said and "The same command continues" in said


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_keeps_what_is_finished_and_the_same_command_continues(tmp_path, stop):
    words = [*QUICK, "rounds=30", f"output_root={tmp_path}", "seed=range(0,40)"]
    command = [sys.executable, "run_experiment.py", *words]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("single/*/digest.txt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, stop) if stop == signal.SIGINT else process.terminate()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "The same command continues" in said
    assert "Traceback" not in said
    finished = len(list(tmp_path.glob("single/*/digest.txt")))
    assert 0 < finished < 40
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0 and f"{finished} already finished" in again.stdout


REFUSED = {
    "f too large": (
        ["defense=krum", "byzantine_fraction=0.4", "clients=10"],
        "f=4 needs at least 11 clients, got 10",
    ),
    "alpha": (["partition=dirichlet", "partition.alpha=0"], "alpha must be above 0"),
    "samples": (["clients=2000", "model=softmax"], "lower clients to 1337"),
    "groups": (["attack=faker_norm", "attack.groups=0"], "groups"),
    "too many groups": (["attack=faker_norm", "attack.groups=700", "model=softmax"], "700"),
    "spp": (["defense=spp+median"], "but Median has none"),
    "data": (["data=mnist"], "data.root=FOLDER"),
    "model": (["model=lenet"], "model=mlp"),
    "device": (["device=tpu"], "device must be cpu or cuda"),
    "fraction": (["byzantine_fraction=1.5"], r"\[0, 1\)"),
    "lr": (["workload.lr=-1"], "lr must be above 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_out_of_range_is_refused_before_training(tmp_path, capsys, case):
    words, says = REFUSED[case]
    assert cli.main([*words, f"output_root={tmp_path}"]) == 1
    said = capsys.readouterr().err
    assert re.search(says, said), said
    assert len(said.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_inputs_are_kept_unless_they_would_fill_the_disk(tmp_path):
    """6 clients x 650 values x 4 bytes = 15.6 kB a run: fine. A thousand clients of an MLP with
    4810 values are 19 MB a run, 1.2 GB for 60 seeds."""
    console = Console(file=io.StringIO())
    words = [f"output_root={tmp_path}"]
    assert preflight.check(compose.study([*QUICK, *words]), console).keep == "last"
    big = ["clients=1000", "seed=range(0,60)", *words]
    assert preflight.check(compose.study(big), console).keep == "none"
    assert preflight.check(compose.study([*big, "keep=all", "seed=0"]), console).keep == "all"


def test_a_study_of_hours_says_so_first(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    plan = compose.study([f"output_root={tmp_path}", "rounds=1000000"])
    preflight.check(plan, console)
    assert "will take about" in console.file.getvalue()
