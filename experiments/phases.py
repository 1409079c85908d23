"""Phases: what each phase of agreeing costs, per round, one line per phase."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.captions import describe
from experiments.results import CellResult, StudyResults
from experiments.run_folder import COSTS
from experiments.typeset import Entry, Table

HEADER = ("messages", "control kB", "model kB", "CPU s, all servers", "simulated s")
SCALES = (1.0, 1e-3, 1e-3, 1.0, 1.0)


def phases(study: StudyResults, name: str = "phases") -> list[Table]:
    """One table over all runs that keep a chain; nothing where none does."""
    cells = [cell for cell in study.cells if cell.status == "done"]
    found = dict.fromkeys(
        column.rpartition(".")[0]
        for cell in cells
        for column in cell.rounds
        if column.endswith(".latency_s")
    )
    if not found:
        return []
    caption = (
        "Cost of agreeing per round by phase, all servers together, mean over rounds and runs; "
    )
    rows = [
        [Entry.of(phase), *(_cost(cells, f"{phase}.{what}", scale)
                            for what, scale in zip(COSTS, SCALES, strict=True))]
        for phase in found
    ]  # fmt: skip
    return [Table(name, caption + describe(study, cells, {}), ["phase", *HEADER], rows, labels=1)]


def _cost(cells: Sequence[CellResult], column: str, scale: float) -> Entry:
    means = [np.nanmean(cell.rounds[column]) for cell in cells if column in cell.rounds]
    value = scale * float(np.mean(means))
    return Entry(f"{value:.4g}", {"mean": value})
