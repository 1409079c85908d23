"""Gallery: which figures a study gets, one per panel, drawn and saved.

curves, heatmap and detection need the axes of the main table; a sweep is drawn for every numeric
axis; partition needs the study's partition.json. What a study has no numbers for is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments import figures
from experiments.results import StudyResults, panels
from experiments.tables import named
from fedalign.core.errors import UnknownNameError

FIGURES = ("curves", "heatmap", "detection", "sweep", "partition")
MOST_PANELS = 12  # figures of one kind; a study of more panels shows the first


def draw(study: StudyResults, node: Mapping[str, Any]) -> list[str]:
    """Save what the report node asks for, default all; returns the names of the files written."""
    asked = list(node.get("figures", FIGURES) or ())
    for name in asked:
        if name not in FIGURES:
            raise UnknownNameError("figure", name, FIGURES)
    if _numeric(study) and "sweep" not in asked:  # an axis added on the command line
        asked.append("sweep")
    kinds = {
        "curves": _curves,
        "heatmap": _heatmap,
        "detection": _detection,
        "sweep": _sweeps,
        "partition": _partition,
    }
    return [file for name in asked for file in kinds[name](study, node.get("main") or {})]


def _curves(study: StudyResults, main: Mapping[str, str]) -> list[str]:
    rows, columns = _layout(study, main)
    return _per_panel(study, "curves", (rows, columns), figures.curves)


def _heatmap(study: StudyResults, main: Mapping[str, str]) -> list[str]:
    rows, columns = _layout(study, main)
    if not rows or not columns:
        return []
    measures = (main.get("metric", "accuracy"),)
    return _per_panel(
        study,
        "heatmap",
        (rows, columns),
        lambda study, cells, rows, columns: figures.heatmap(study, cells, rows, columns, measures),
    )


def _detection(study: StudyResults, main: Mapping[str, str]) -> list[str]:
    rows, columns = _layout(study, main)
    sent = any("malicious_sent" in cell.rounds for cell in study.cells)
    if not rows or not columns or not sent:
        return []
    return _per_panel(study, "detection", (rows, columns), figures.detection)


def _sweeps(study: StudyResults, main: Mapping[str, str]) -> list[str]:
    drawn = []
    for axis in _numeric(study):
        rows, columns = _layout(study, main, without=axis)
        drawn += _per_panel(
            study,
            f"sweep_{axis}",
            (axis, rows, columns),
            lambda study, cells, axis, rows, columns: figures.sweep(
                study, cells, axis, rows, columns, main.get("metric", "accuracy")
            ),
        )
    return drawn


def _partition(study: StudyResults, main: Mapping[str, str]) -> list[str]:
    try:
        found = json.loads((study.folder / "partition.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return []
    if not found.get("clients") or not all(found["clients"]):
        return []
    figures.save(figures.partition(found["clients"]), study.folder / "figures", "partition")
    return ["partition"]


def _per_panel(study: StudyResults, name: str, axes: Sequence[str], draw: Callable) -> list[str]:
    drawn = []
    for fixed, cells in panels(study, axes)[:MOST_PANELS]:
        if any(cell.status == "done" for cell in cells):
            file = file_name(named(name, fixed))
            figures.save(draw(study, cells, *axes), study.folder / "figures", file)
            drawn.append(file)
    return drawn


def file_name(name: str) -> str:
    """A name without what some file system or link refuses."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


def _layout(study: StudyResults, main: Mapping[str, str], without: str = "") -> tuple[str, str]:
    """Which axis makes panels or rows, which makes lines or columns; "" for neither."""
    rows, columns = main.get("rows", "defense"), main.get("columns", "attack")
    free = [axis for axis in study.axes if axis != without]
    if rows in free and columns in free:
        return rows, columns
    free = [axis for axis in (columns, rows) if axis in free] or free[:1]
    return "", free[0] if free else ""


def _numeric(study: StudyResults) -> list[str]:
    return [a for a, values in study.axes.items() if len(values) > 1 and all(map(_number, values))]


def _number(value: str) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except ValueError:
        return False
