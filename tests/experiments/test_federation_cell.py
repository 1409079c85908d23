"""One run: same seed, same digest, whatever the runtime; resumed after a kill; verified."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from experiments import compose, federation_cell, run_folder, verify
from fedalign.core import memory
from fedalign.core.errors import IntegrityError
from fedalign.core.log import read

ROOT = Path(__file__).parent.parent.parent
SMALL = ["clients=8", "rounds=4", "data.limit=200", "byzantine_fraction=0.25", "block=3"]


def config(*words):
    return dict(compose.study([*SMALL, "keep=last", *words]).cells[0].config)


def play(folder, *words):
    federation_cell.play(config(*words), folder, {"source": "test"})
    return (folder / "digest.txt").read_text().strip()


def test_same_seed_same_digest_and_another_seed_another(tmp_path):
    first = play(tmp_path / "a", "attack=faker_norm", "defense=krum")
    assert first == play(tmp_path / "b", "attack=faker_norm", "defense=krum")
    assert first != play(tmp_path / "c", "attack=faker_norm", "defense=krum", "seed=1")


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["fedavg", "client_momentum"])
def test_inline_two_and_four_workers_give_the_same_digest(tmp_path, algorithm):
    """Blocks of 3 over 8 clients, so that workers get unequal work; with failures and sampling."""
    words = [f"algorithm={algorithm}", "attack=dba", "defense=multi_krum", "participation=0.75",
             "failure_rate=0.1"]  # fmt: skip
    digests = {
        play(tmp_path / "inline", *words),
        play(tmp_path / "two", *words, "runtime=processes", "runtime.processes=2"),
        play(tmp_path / "four", *words, "runtime=processes", "runtime.processes=4"),
    }
    assert len(digests) == 1


def test_a_run_stopped_anywhere_resumes_to_the_same_digest(tmp_path):
    """A checkpoint each round; the run breaks in round 3 and is taken up again. FoolsGold and
    client momentum carry memory over the break."""
    words = ["algorithm=client_momentum", "defense=foolsgold", "attack=free_riding_delta"]
    whole = play(tmp_path / "whole", *words)
    broken = {**config(*words), "checkpoint_s": 0}
    global_round = federation_cell.global_round

    def stops(parts, state):
        if state.round == 2:
            raise KeyboardInterrupt
        return global_round(parts, state)

    federation_cell.global_round = stops
    try:
        with pytest.raises(KeyboardInterrupt):
            federation_cell.play(broken, tmp_path / "broken", {"source": "test"})
    finally:
        federation_cell.global_round = global_round
    events = tmp_path / "broken/events.jsonl"
    events.write_text(events.read_text() + '{"hash": "torn line of a killed process')
    assert (tmp_path / "broken/checkpoint/2/state.safetensors").is_file()
    federation_cell.play(broken, tmp_path / "broken", {"source": "test"})
    assert (tmp_path / "broken/digest.txt").read_text().strip() == whole
    rounds = [e["round"] for e, _ in read(events) if e["event"] == "round"]
    assert rounds == [1, 2, 3, 4]
    assert verify.verify(tmp_path / "broken").rounds == 4


@pytest.mark.slow
def test_kill_9_in_the_middle_loses_nothing_that_was_checkpointed(tmp_path):
    """A real process, really killed, while it writes a checkpoint every round."""
    words = ["rounds=60", "checkpoint_s=0", "defense=median"]
    whole = play(tmp_path / "whole", *words)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(config(*words)))
    code = (
        "import json, pathlib; from experiments.federation_cell import play; "
        f"play(json.loads(pathlib.Path({str(plan)!r}).read_text()), "
        f"pathlib.Path({str(tmp_path / 'run')!r}), {{'source': 'test'}})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("run/checkpoint/[0-9]*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run/digest.txt").exists(), "it finished before it could be killed"
    resumed = run_folder.RunFolder(tmp_path / "run", config(*words), {"source": "test"})
    assert resumed.checkpoint is not None
    resumed.log.close()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert (tmp_path / "run/digest.txt").read_text().strip() == whole


def test_other_code_does_not_resume_a_checkpoint_of_this_one(tmp_path):
    federation_cell.play({**config(), "checkpoint_s": 0}, tmp_path, {"source": "old"})
    (tmp_path / "digest.txt").unlink()
    (tmp_path / "checkpoint/2").mkdir(parents=True)
    (tmp_path / "checkpoint/2/progress.json").write_text('{"length": 10}')
    files = run_folder.RunFolder(tmp_path, config(), {"source": "new"})
    assert files.checkpoint is None and files.log.length == 0


RULES = ["krum", "norm_filter", "spp+norm_filter", "dynamic_server", "centered_clipping", "fltrust",
         "lfr+fedavg", "bucketing+median", "flame"]  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_kept_aggregates_are_computed_again_bit_for_bit(tmp_path, rule):
    play(
        tmp_path / "run",
        f"defense={rule}",
        "attack=ipm10",
        "keep=all",
        "clients=12",
        "data.limit=240",
    )
    account = verify.verify(tmp_path)
    assert (account.runs, account.rounds, account.recomputed) == (1, 4, 4)


def _edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _nudge(folder):
    path = folder / "kept/round_00004.safetensors"
    kept = memory.read(path)
    kept["rows"][0, 0] += 1e-3
    memory.write(path, kept)


def _swap_payload(folder):
    payload = memory.read(folder / "payload.safetensors")
    memory.write(
        folder / "payload.safetensors", {k: torch.zeros_like(v) for k, v in payload.items()}
    )


LIES = {
    "a line of the log": (
        lambda f: _edit(f / "events.jsonl", '"skipped":false', '"skipped":true'),
        "was altered",
    ),
    "a table": (
        lambda f: _edit(f / "rounds.csv", "\n1,0.", "\n1,0.9"),
        "rounds.csv does not follow",
    ),
    "the config": (
        lambda f: _edit(f / "config.yaml", "seed: 0", "seed: 1"),
        "not the config of its log",
    ),
    "the digest": (lambda f: (f / "digest.txt").write_text("0" * 64), "digest.txt does not follow"),
    "an input": (_nudge, "the aggregate of round 4 is not what the rule gives"),
    "the model": (_swap_payload, "the payload is not the last model"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_named(tmp_path, capsys, lie):
    play(tmp_path / "run", "defense=trimmed_mean", "attack=sign_flip")
    assert verify.main(tmp_path) == 0
    tell, says = LIES[lie]
    tell(tmp_path / "run")
    with pytest.raises(IntegrityError, match=says):
        verify.verify(tmp_path)
    assert verify.main(tmp_path) == 1
    assert "NOT VERIFIED" in capsys.readouterr().out


def test_the_secret_is_promised_first_and_revealed_last_and_every_draw_follows_from_it(tmp_path):
    play(tmp_path, "defense=dynamic_server", "clients=12", "data.limit=240")
    events = [body for body, _ in read(tmp_path / "events.jsonl")]
    secret = bytes.fromhex(events[-1]["secret"])
    assert hashlib.sha256(secret).hexdigest() == events[0]["secret_sha256"]
    rounds = [event for event in events if event["event"] == "round"]
    verify._draws(tmp_path, rounds, secret)
    rounds[1]["notes"]["drawn"] = (rounds[1]["notes"]["drawn"] + 1) % 4
    with pytest.raises(IntegrityError, match="the rule of round 2 is not the one that was drawn"):
        verify._draws(tmp_path, rounds, secret)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "floor"),
    [
        (["data=digits", "workload.lr=0.5"], 0.92),
        (["data=fashion_mnist", "workload.lr=0.1"], 0.81),
        (["data=cifar10", "workload.lr=0.01"], 0.32),
    ],
    ids=["digits", "fashion_mnist", "cifar10"],
)
def test_floors_that_catch_a_broken_trainer(tmp_path, words, floor):
    """FedAvg, no attack, softmax, IID, n=20, 2 epochs, 30 rounds, mean of the last three."""
    root = os.environ.get("FEDALIGN_DATA_ROOT")
    if "digits" not in words[0]:
        if not root:
            pytest.skip(f"{words[0]} needs image files: set FEDALIGN_DATA_ROOT to their folder")
        words = [*words, f"data.root={root}"]
    cell = compose.study([*words, "model=softmax"]).cells[0]
    federation_cell.play(cell.config, tmp_path, {"source": "test"})
    lines = (tmp_path / "rounds.csv").read_text().splitlines()
    accuracy = [float(line.split(",")[1]) for line in lines[-3:]]
    assert sum(accuracy) / 3 >= floor
