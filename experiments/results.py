"""Results: what a study left on disk, read back as plain arrays.

A study folder holds `study.json` (name, axes, cells) and one folder per run with its
`rounds.csv`. Reading is forgiving on purpose: one absent or damaged run must not hide the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fedalign.core.errors import DataError

NOTHING: Mapping[str, np.ndarray] = {}
UNREACHED = "—"  # the value of a parameter that the objects of a cell do not have


@dataclass(frozen=True)
class CellResult:
    """One run of one seed.

    axes: where it stands in the grid, without the seed. status: done | failed | missing |
    measured (its rows are in study.json, there are no rounds).
    reason: why it failed, "" else. config: its resolved plain config. rounds: column of
    rounds.csv -> (rounds,) float64, round counts from 1. facts: what its rule states of itself
    ("space": model | update, "family") and how many clients are "byzantine". choices: config
    group -> the option taken, as users type it ("data": "digits", "defense": "spp+krum").
    """

    run_id: str
    folder: Path
    axes: Mapping[str, str]
    seed: int
    status: str
    reason: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    rounds: Mapping[str, np.ndarray] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    choices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyResults:
    """All runs of a study. axes: axis -> its values in the order they were asked for."""

    name: str
    folder: Path
    axes: Mapping[str, Sequence[str]]
    cells: Sequence[CellResult]


def load(folder: str | Path) -> StudyResults:
    """Read a study folder. DataError when its study.json is absent or damaged."""
    folder = Path(folder)
    study = manifest(folder)
    axes = {
        axis: tuple(map(str, values))
        for axis, values in study.get("axes", {}).items()
        if axis != "seed"
    }
    cells = tuple(_cell(folder, entry) for entry in study.get("cells", ()))
    return StudyResults(str(study.get("name", folder.name)), folder, axes, cells)


def manifest(folder: str | Path) -> Mapping[str, Any]:
    """The study.json of a folder, as it is."""
    path = Path(folder) / "study.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist: expected the folder of a study, such as outputs/faker; "
            "run `python run_experiment.py scenario=faker` first."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is damaged ({error}): expected JSON with name, axes and cells; run the "
            "study again, its finished cells are kept."
        ) from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds a {type(found).__name__}: expected a mapping.")
    return found


def panels(
    study: StudyResults, shown: Sequence[str]
) -> list[tuple[Mapping[str, str], tuple[CellResult, ...]]]:
    """The study cut along every axis that is not `shown`: (the fixed values, their cells).

    A cell that a parameter does not reach is part of every panel of that parameter.
    """
    rest = [axis for axis in study.axes if axis not in shown]
    parts = grouped(everywhere(study, study.cells, rest), rest)
    values = product(*(study.axes[axis] for axis in rest))
    return [(dict(zip(rest, at, strict=True)), parts.get(at, ())) for at in values]


def everywhere(
    study: StudyResults, cells: Sequence[CellResult], axes: Sequence[str]
) -> tuple[CellResult, ...]:
    """The cells, those that a parameter among `axes` does not reach once per value of it: its
    values change nothing there."""
    found = []
    for cell in cells:
        free = [a for a in axes if cell.axes.get(a) == UNREACHED and UNREACHED not in study.axes[a]]
        for at in product(*(study.axes[axis] for axis in free)):
            moved = {**cell.axes, **dict(zip(free, at, strict=True))}
            found.append(replace(cell, axes=moved) if free else cell)
    return tuple(found)


def grouped(
    cells: Sequence[CellResult], axes: Sequence[str]
) -> dict[tuple[str, ...], tuple[CellResult, ...]]:
    """Cells by their values on `axes`, seeds in ascending order within a group."""
    groups: dict[tuple[str, ...], list[CellResult]] = {}
    for cell in sorted(cells, key=lambda cell: cell.seed):
        groups.setdefault(tuple(cell.axes.get(axis, "") for axis in axes), []).append(cell)
    return {at: tuple(group) for at, group in groups.items()}


def _cell(folder: Path, entry: Mapping[str, Any]) -> CellResult:
    run_folder = folder / entry["run_id"]
    status, reason, rounds = str(entry.get("status", "missing")), entry.get("reason") or "", NOTHING
    if status == "done":
        try:
            rounds = _columns((run_folder / "rounds.csv").read_text(encoding="utf-8"))
        except FileNotFoundError:
            if (run_folder / "rows.json").is_file():
                status = "measured"
            else:
                status, reason = "missing", "its rounds.csv is absent"
        except (ValueError, OSError) as error:
            status, reason = "failed", f"its rounds.csv is damaged: {error}"
    return CellResult(
        run_id=entry["run_id"],
        folder=run_folder,
        axes={axis: str(value) for axis, value in entry.get("axes", {}).items() if axis != "seed"},
        seed=int(entry.get("seed", 0)),
        status=status,
        reason=str(reason),
        config=entry.get("config") or {},
        rounds=rounds,
        facts=entry.get("facts") or {},
        choices=entry.get("choices") or {},
    )


def _columns(text: str) -> Mapping[str, np.ndarray]:
    lines = [line.split(",") for line in text.splitlines() if line]
    if len(lines) < 2:
        raise ValueError("it holds no round")
    header, rows = lines[0], lines[1:]
    if any(len(row) != len(header) for row in rows):
        raise ValueError("a line is cut off")
    values = np.array(
        [[float(v) if v else np.nan for v in row] for row in rows]
    )  # (rounds, columns)
    return dict(zip(header, values.T, strict=True))
