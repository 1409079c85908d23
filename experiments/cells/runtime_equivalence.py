"""Cell of `scenario=runtime_equivalence`: one federation on every runtime, and whether their digests agree.

The inline run is what all others are held against. Where `jitter_s` is set, clients wait a drawn
time before they begin, so that blocks finish in another order than they were given out.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from experiments import compose, federation_cell
from experiments.benchmarks.cells import write_rows
from fedalign.core.errors import ConfigError, FedalignError, IntegrityError, UnknownNameError
from fedalign.federation.runtimes.flower.engines import refuse

Config = Mapping[str, Any]

REFERENCE = "inline"
SHUFFLED = "jitter_s=0.2"
RUNTIMES: Mapping[str, Sequence[str]] = {
    REFERENCE: (),
    "processes_2": ("runtime=processes", "runtime.processes=2"),
    "processes_4": ("runtime=processes", "runtime.processes=4"),
    "processes_4_shuffled": ("runtime=processes", "runtime.processes=4", SHUFFLED),
    "flower_local": ("runtime=flower", "runtime.nodes=2"),
    "flower_ray": ("runtime=flower", "runtime.mode=ray", SHUFFLED),
    "flower_deploy": ("runtime=flower", "runtime.mode=deploy", "runtime.secure=true", SHUFFLED),
}
TASKS: Mapping[str, Sequence[str]] = {  # clients with memories, attackers, a rule that chooses
    "classification": (
        "clients=8", "block=2", "data.limit=200", "byzantine_fraction=0.25", "batching=loop",
        "algorithm=client_momentum", "attack=dba", "defense=multi_krum", "failure_rate=0.1",
    ),
    "dpo": (
        "scenario=dpo", "objective=dpo", "data.annotator.error=0.0", "seed=0", "clients=4",
        "block=1", "local_steps=3", "byzantine_fraction=0.25", "algorithm=client_momentum",
        "attack=sign_flip", "defense=median", "data.world.entities=4", "data.world.attributes=3",
        "data.world.values=4", "data.demonstrations=800", "data.pairs=80", "data.evaluation=32",
        "data.held_out=24", "data.root_samples=12", "model.vocabulary=96", "model.hidden=32",
        "model.layers=2", "model.heads=2", "model.mlp=64", "model.teach_steps=60",
        "model.teach_batch=32", "peft.rank=2", "workload.batch_size=8", "workload.lr=0.005",
    ),
}  # fmt: skip


def runtime_equivalence(config: Config, folder: Path, environment: Config) -> None:
    """One task on all asked runtimes. IntegrityError, after the rows are written, where one of
    them ends with another digest than inline or does not end."""
    task, asked = config["task"], config["runtimes"]
    for kind, names, known in (("task", [task], TASKS), ("runtime", asked, RUNTIMES)):
        for name in names:
            if name not in known:
                raise UnknownNameError(kind, name, known)
    words = [*TASKS[task], f"rounds={config['rounds']}", f"seed={config['seed']}"]
    federation_cell.client_work(_cell(words))  # what is made once and kept is nobody's time
    expected, rows = "", []
    for name in dict.fromkeys((REFERENCE, *asked)):
        digest, seconds, note = _played([*words, *RUNTIMES[name]], folder / name, environment)
        expected = expected or digest
        rows.append({
            "task": task, "runtime": name, "digest": digest[:16] or None,
            "equal": None if note.startswith(_SKIPPED) else digest == expected != "",
            "seconds": round(seconds, 1) if digest else None, "note": note,
        })  # fmt: skip
    if not any(row["note"] for row in rows):
        rows = [{key: value for key, value in row.items() if key != "note"} for row in rows]
    write_rows(rows, config, folder, environment)
    wrong = [row for row in rows if row["equal"] is False]
    if wrong:
        (folder / "digest.txt").unlink()  # what does not agree is not finished
        raise IntegrityError(
            f"{task}: {wrong[0]['runtime']} ended with {wrong[0]['digest'] or repr(wrong[0]['note'])}, "
            f"{REFERENCE} with {expected[:16]}."
        )


_SKIPPED = "not run: "


def _cell(words: Sequence[str]) -> Config:
    return {**compose.study(words).cells[0].config, "keep": "none"}


def _played(words: Sequence[str], folder: Path, environment: Config) -> tuple[str, float, str]:
    """The digest of a run, its seconds with all that starts and ends, and what went wrong."""
    config = _cell(words)
    try:
        refuse(config["runtime"])
    except ConfigError as absent:
        return "", 0.0, f"{_SKIPPED}{absent}"
    shutil.rmtree(folder, ignore_errors=True)
    began = perf_counter()
    try:
        federation_cell.play(config, folder, environment)
    except FedalignError as error:
        return "", perf_counter() - began, str(error).splitlines()[0]
    return (folder / "digest.txt").read_text().strip(), perf_counter() - began, ""
