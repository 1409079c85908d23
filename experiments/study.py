"""A study: the cells of a grid side by side, each finished once, whatever happens in between.

Finished cells are found by the hash of their config and kept; a killed study continues, a widened
one re-uses. A failing cell does not stop the grid: it is shown as failed with its reason.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from experiments import catalogue
from experiments.build import locate
from experiments.compose import Cell, Study, workers_for
from experiments.preflight import Checked
from experiments.progress import Progress
from experiments.run_folder import finished, same_code, write
from fedalign.core.digest import of_files
from fedalign.core.errors import FedalignError, FolderBusyError

PACKAGES = ("fedalign", "attacks", "defenses", "consensus", "incentives", "experiments")


class StudyStopped(FedalignError):
    """A study was stopped from outside; says what is kept and how to go on."""


@dataclass
class Ledger:
    """What became of each cell: run id -> "" (done) or the reason why it failed."""

    reasons: dict[str, str] = field(default_factory=dict)
    reused: int = 0

    @property
    def failed(self) -> int:
        return sum(bool(reason) for reason in self.reasons.values())


def run(study: Study, checked: Checked, progress: Progress) -> Ledger:
    """Play every unfinished cell below `output_root`/<study name> and write study.json."""
    folder = Path(study.settings["output_root"]) / study.name
    environment = describe(study)
    with _locked(folder):
        ledger = Ledger()
        reuse = study.settings["reuse"]
        there = [cell for cell in study.cells if finished(folder / cell.run_id)]
        fresh = [c for c in there if same_code(folder / c.run_id, environment["source"])]
        kept = {"none": [], "same": fresh, "any": there}[reuse]
        ledger.reasons |= {cell.run_id: "" for cell in kept}
        ledger.reused, stale = len(kept), len(there) - len(fresh) if reuse == "same" else 0
        todo = [cell for cell in study.cells if cell.run_id not in ledger.reasons]
        workers = min(workers_for(study), max(len(todo), 1))
        progress.begin(len(study.cells), ledger.reused, stale, workers)
        try:
            _play(study, todo, folder, environment, workers, checked.keep, ledger, progress)
        except KeyboardInterrupt as stop:
            raise StudyStopped(_stopped("Stopped", ledger, study)) from stop
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise StudyStopped(_stopped("The disk is full", ledger, study)) from error
        finally:
            progress.end()
            _index(study, folder, ledger, checked, environment)
    return ledger


def describe(study: Study) -> dict[str, Any]:
    """Versions, commit, source digest, hardware: what environment.json holds."""
    found = {}
    for package in ("torch", "numpy", "scipy", "scikit-learn", "hydra-core", "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return {
        "command": study.command,
        "source": source_digest(),
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": found,
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads_per_process": study.cells[0].config.get("threads", 1),
    }


def source_digest() -> str:
    """SHA-256 over our own Python and YAML files."""
    root = catalogue.ROOT
    files = [
        p for name in PACKAGES for p in (root / name).rglob("*") if p.suffix in (".py", ".yaml")
    ]
    return of_files(files, root)


def _play(
    study: Study,
    todo: Sequence[Cell],
    folder: Path,
    environment: Mapping[str, Any],
    workers: int,
    keep: str,
    ledger: Ledger,
    progress: Progress,
) -> None:
    """All cells side by side; those in flight when a worker died once more, each alone."""

    def submit(pool: ProcessPoolExecutor, cell: Cell) -> Future:
        progress.started(cell)
        path = folder / cell.run_id
        return pool.submit(_cell, study.cell, {**cell.config, "keep": keep}, path, environment)

    def settle(cell: Cell, reason: str) -> None:
        ledger.reasons[cell.run_id] = reason
        progress.finished(cell, reason)

    suspects = _fly(todo, workers, submit, settle)
    for cell in suspects:
        if _fly([cell], 1, submit, settle):
            settle(cell, "its process was killed twice (out of memory?)")


def _fly(
    cells: Sequence[Cell],
    width: int,
    submit: Callable[[ProcessPoolExecutor, Cell], Future],
    settle: Callable[[Cell, str], None],
) -> list[Cell]:
    """Keep `width` cells in flight; returns those that were when a worker died."""
    queue, suspects = list(reversed(cells)), []
    while queue:
        pool, flying = _pool(width), {}
        try:
            while queue or flying:
                while queue and len(flying) < width:
                    future = submit(pool, queue[-1])  # refused by a broken pool, it stays queued
                    flying[future] = queue.pop()
                done, _ = wait(flying, return_when=FIRST_COMPLETED)
                for future in done:
                    reason = future.result()
                    settle(flying.pop(future), reason)
        except BrokenProcessPool:
            suspects += flying.values()
        finally:
            _end(pool)
    return suspects


def _pool(workers: int) -> ProcessPoolExecutor:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # inherited by workers, read when they import torch
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_quiet)


def _end(pool: ProcessPoolExecutor) -> None:
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


def _quiet() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer


def _cell(target: str, config: dict[str, Any], folder: Path, environment: Mapping[str, Any]) -> str:
    """In a worker: play one cell, answer why it failed or nothing."""
    try:
        locate(target)(config, folder, environment)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        return (
            str(error) if isinstance(error, FedalignError) else f"{type(error).__name__}: {error}"
        )
    return ""


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FolderBusyError(
                f"Another study is writing {folder}: wait for it, or give this one its own "
                "output_root=FOLDER."
            ) from error
        yield


def _stopped(why: str, ledger: Ledger, study: Study) -> str:
    return (
        f"{why}: {len(ledger.reasons)} of {len(study.cells)} cells are finished and kept. "
        f"The same command continues:\n  {study.command}"
    )


def _index(
    study: Study,
    folder: Path,
    ledger: Ledger,
    checked: Checked,
    environment: Mapping[str, Any],
) -> None:
    """study.json: what was asked and what became of it."""
    cells = []
    for cell in study.cells:
        reason = ledger.reasons.get(cell.run_id)
        status = "missing" if reason is None else "failed" if reason else "done"
        axes = {axis: label for axis, label in cell.axes.items() if axis != "seed"}
        cells.append({
            "run_id": cell.run_id, "axes": axes, "seed": cell.config.get("seed", 0),
            "status": status, "reason": reason or "", "facts": checked.facts.get(cell.run_id, {}),
            "choices": cell.choices, "config": cell.config,
        })  # fmt: skip
    index = {
        "name": study.name,
        "title": study.title,
        "command": study.command,
        "axes": {axis: values for axis, values in study.axes.items() if axis != "seed"},
        "report": study.report,
        "cells": cells,
        "rows": list(_measured(study, folder)),
    }
    try:
        if checked.holdings:
            write(folder / "partition.json", json.dumps({"clients": checked.holdings}) + "\n")
        write(folder / "study.json", json.dumps(index) + "\n")
        write(folder / "environment.json", json.dumps(environment, indent=1, sort_keys=True) + "\n")
    except OSError:
        print("The disk is full: study.json could not be written.", file=sys.stderr)


def _measured(study: Study, folder: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of cells that are measurements and not federations."""
    for cell in study.cells:
        path = folder / cell.run_id / "rows.json"
        if path.is_file():
            yield from json.loads(path.read_text())


def _commit() -> str:
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=catalogue.ROOT,
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip() or "unknown"
