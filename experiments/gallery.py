"""Gallery: which figures a study gets, one per panel, drawn and saved.

curves, heatmap and detection need the axes of the main table; a sweep is drawn for every numeric
axis of three values or more, or of two where there is no longer one; partition needs the study's
partition.json; overoptimisation is drawn where it is asked for. What a study has no numbers for is
left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from experiments import figures
from experiments.captions import named
from experiments.results import StudyResults, everywhere, manifest, panels
from experiments.tables import several
from experiments.traces import is_trace, traces
from fedalign.core.errors import DataError, UnknownNameError

USUAL = ("curves", "heatmap", "detection", "sweep", "partition")  # where nothing is asked for
FIGURES = (*USUAL, "overoptimisation", "tradeoff")
MOST_PANELS = 12  # figures of one kind; a study of more panels shows the first


def draw(study: StudyResults, node: Mapping[str, Any]) -> list[str]:
    """Save what the report node asks for, default all; returns the names of the files written."""
    asked = list(node.get("figures", USUAL) or ())
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
        "overoptimisation": _overoptimisation,
        "tradeoff": _tradeoff,
    }
    main = {"metric": "accuracy", **(node.get("main") or {})}
    main["sweep"] = several(node.get("sweep") or main["metric"])
    return [file for name in asked for file in kinds[name](study, main)] + _traces(study)


def _traces(study: StudyResults) -> list[str]:
    """The curves that measurements left among their rows."""
    try:
        rows = manifest(study.folder).get("rows") or ()
    except DataError:
        return []
    for name, figure in traces(rows).items():
        figures.save(figure, study.folder / "figures", file_name(name))
    return list(map(file_name, dict.fromkeys(r["figure"] for r in rows if is_trace(r))))


def _curves(study: StudyResults, main: Mapping[str, Any]) -> list[str]:
    rows, columns = _layout(study, main)
    return _per_panel(study, "curves", (rows, columns), figures.curves)


def _overoptimisation(study: StudyResults, main: Mapping[str, Any]) -> list[str]:
    rows, columns = _layout(study, main)
    if not any("gold_reward" in cell.rounds for cell in study.cells):
        return []
    return _per_panel(study, "overoptimisation", (rows, columns), figures.overoptimisation)


def _tradeoff(study: StudyResults, main: Mapping[str, Any]) -> list[str]:
    rows, columns = _layout(study, main)
    if not any("payload_bytes" in cell.rounds for cell in study.cells):
        return []
    return _per_panel(study, "tradeoff", (rows, columns), figures.tradeoff)


def _heatmap(study: StudyResults, main: Mapping[str, Any]) -> list[str]:
    rows, columns = _layout(study, main)
    if not rows or not columns:
        return []
    measures = several(main["metric"])
    return _per_panel(
        study,
        "heatmap",
        (rows, columns),
        lambda study, cells, rows, columns: figures.heatmap(study, cells, rows, columns, measures),
    )


def _detection(study: StudyResults, main: Mapping[str, Any]) -> list[str]:
    rows, columns = _layout(study, main)
    sent = any("malicious_sent" in cell.rounds for cell in study.cells)
    if not rows or not columns or not sent:
        return []
    return _per_panel(study, "detection", (rows, columns), figures.detection)


def _sweeps(study: StudyResults, main: Mapping[str, Any]) -> list[str]:
    drawn = []
    for axis, measure in product(_swept(study), main["sweep"]):
        rows, columns = _layout(study, main, without=axis)
        drawn += _per_panel(
            study,
            f"sweep_{axis}" if len(main["sweep"]) == 1 else f"sweep_{axis}__{measure}",
            (axis, rows, columns),
            partial(figures.sweep, measure=measure),
        )
    return drawn


def _partition(study: StudyResults, main: Mapping[str, Any]) -> list[str]:
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
    shown = [axis for axis in axes if axis]
    for fixed, cells in panels(study, shown)[:MOST_PANELS]:
        cells = everywhere(study, cells, shown)
        if any(cell.status == "done" for cell in cells):
            file = file_name(named(study, name, fixed))
            figures.save(draw(study, cells, *axes), study.folder / "figures", file)
            drawn.append(file)
    return drawn


def file_name(name: str) -> str:
    """A name without what some file system or link refuses."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


def _layout(study: StudyResults, main: Mapping[str, Any], without: str = "") -> tuple[str, str]:
    """Which axis makes panels or rows, which makes lines or columns; "" for neither."""
    free = [axis for axis in study.axes if axis != without]
    column = next((a for a in several(main.get("columns", "attack")) if a in study.axes), "")
    rows = [a for a in several(main.get("rows", "defense")) if a in free and a != column]
    columns = [column] if column in free else rows[1:]
    if rows and columns:
        return rows[0], columns[0]
    return "", next(iter([*columns, *rows, *free]), "")


def _swept(study: StudyResults) -> list[str]:
    numeric = _numeric(study)
    return [axis for axis in numeric if len(study.axes[axis]) > 2] or numeric


def _numeric(study: StudyResults) -> list[str]:
    return [a for a, values in study.axes.items() if len(values) > 1 and all(map(_number, values))]


def _number(value: str) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except ValueError:
        return False
