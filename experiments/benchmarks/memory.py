"""Memory against the number of clients: federated DPO with a streaming rule, a process per run.

The pool of pairs is the same, so that what grows is what is kept per client: ids and work. A run
that is not shown goes first and leaves the taught model in the cache. Peaks are of the whole run,
imports included; `grown` is what the run itself added to a process that had built everything.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fedalign.core.errors import ConfigError

Row = Mapping[str, Any]
LIMIT = 1.05
WORDS = (
    "scenario=dpo", "objective=dpo", "data.annotator.error=0.0", "seed=0", "rounds=2",
    "local_steps=1", "block=5", "byzantine_fraction=0", "defense=streamed_mean", "attack=none",
    "data.world.entities=4", "data.world.attributes=3", "data.world.values=4",
    "data.demonstrations=800", "data.pairs=4000", "data.evaluation=32", "data.held_out=24",
    "data.root_samples=12", "model.vocabulary=96", "model.hidden=32", "model.layers=2",
    "model.heads=2", "model.mlp=64", "model.teach_steps=60", "model.teach_batch=32", "peft.rank=2",
    "workload.batch_size=4", "workload.lr=0.005",
)  # fmt: skip


def measure(clients: Sequence[int]) -> Sequence[Row]:
    """clients: at least two numbers, ascending. Rows with the ratio to the first."""
    if len(clients) < 2 or sorted(set(clients)) != list(clients) or clients[0] < 1:
        raise ConfigError(
            f"counts must be two or more ascending numbers of clients, got {list(clients)}."
        )
    _peak(clients[0])
    rows: list[dict[str, Any]] = []
    for count in clients:
        found = _peak(count)
        row = {"table": "memory", "clients": count, "peak MB": round(found["peak"], 1),
               "built MB": round(found["built"], 1),
               "grown MB": round(found["peak"] - found["built"], 1)}  # fmt: skip
        if rows:
            ratio = found["peak"] / rows[0]["peak MB"]
            row |= {"ratio": round(ratio, 3), "goal": f"<= {LIMIT}", "met": ratio <= LIMIT}
        rows.append(row)
    return rows


def _peak(clients: int) -> Mapping[str, float]:
    command = [sys.executable, "-m", "experiments.benchmarks.memory", str(clients)]
    root = Path(__file__).parent.parent.parent
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if answer.returncode:
        reason = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ConfigError(f"The run with {clients} clients ended early: {reason}")
    return json.loads(answer.stdout.strip().splitlines()[-1])


def _play(clients: int) -> Mapping[str, float]:
    """In the child: one run, megabytes once everything is built and at the peak."""
    from experiments import compose, federation_cell, resident

    config = compose.study([*WORDS, f"clients={clients}"]).cells[0].config
    federation_cell.client_work(config)
    resident.reset()
    built = resident.peak_mb()
    with TemporaryDirectory() as folder:
        federation_cell.play({**config, "keep": "none"}, Path(folder) / "run", {})
    return {"built": built, "peak": resident.peak_mb()}


if __name__ == "__main__":
    print(json.dumps(_play(int(sys.argv[1]))))
