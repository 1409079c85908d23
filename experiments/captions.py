"""Captions: what a reader must know of a table or figure, each fact once.

Data, partition and rules are named as users type them; what is an axis of the study is not told,
the table shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.results import CellResult, StudyResults
from experiments.scores import attack_length, attack_of, attack_start
from experiments.typeset import MISSING

SPACES = {"model": "M", "update": "U"}
SPACE_NOTE = "(M)/(U): the rule tests models/updates; compare rows of one space only."
USUAL = {"algorithm": "fedavg"}  # told only where it is another

Cells = Sequence[CellResult]


def describe(study: StudyResults, cells: Cells, fixed: Mapping[str, str], std: bool = True) -> str:
    """On what, how many clients and rounds, which seeds: "digits, iid, mlp; n = 20 (4 malicious),
    30 rounds; mean ± population std over seeds 0, 1." std: whether numbers carry a deviation."""
    parts = [
        ", ".join(_setting(study, cells)),
        ", ".join(_size(study, cells)),
        *(f"{axis} = {label(study, axis, value)}" for axis, value in fixed.items()),
        _seeds(study, std),
    ]
    return "; ".join(part for part in parts if part) + "."


def label(study: StudyResults, axis: str, value: str) -> str:
    """A value as printed; a defense with the space it tests in."""
    if axis != "defense":
        return value
    return value + _marks([cell for cell in study.cells if cell.axes.get("defense") == value])


def named(study: StudyResults, name: str, fixed: Mapping[str, str]) -> str:
    """The name of one of several panels, by what distinguishes them."""
    apart = [f"{axis}-{value}" for axis, value in fixed.items() if len(study.axes[axis]) > 1]
    return "__".join([name, *apart])


def space_note(labels: Sequence[str]) -> str:
    """What (M) and (U) mean, where they are printed."""
    shown = any(text.endswith(("(M)", "(U)", "(M/U)")) for text in labels)
    return f" {SPACE_NOTE}" if shown else ""


def capital(text: str) -> str:
    """A sentence's first letter."""
    return text[:1].upper() + text[1:]


def _setting(study: StudyResults, cells: Cells) -> list[str]:
    told = []
    for group in ("data", "partition", "model", "algorithm", "attack", "defense"):
        name = _common(cell.choices.get(group) for cell in cells)
        if group in study.axes or name in (None, USUAL.get(group)):
            continue
        if group == "partition":
            name += _parameter(study, cells, group)
        if group == "defense":
            name += _marks(cells)
        told.append(f"{group} {name}" if group in ("algorithm", "attack", "defense") else name)
    return told


def _parameter(study: StudyResults, cells: Cells, group: str) -> str:
    """The first parameter of an object, which is the one that shapes it."""
    found = _common(
        next(((k, v) for k, v in node.items() if isinstance(v, int | float)), None)
        for node in (cell.config.get(group) for cell in cells)
        if isinstance(node, Mapping)
    )
    if found is None or f"{group}.{found[0]}" in study.axes:
        return ""
    return f" ({found[0]} = {found[1]})"


def _size(study: StudyResults, cells: Cells) -> list[str]:
    def common(key: str) -> Any:
        return _common(cell.config.get(key) for cell in cells) if key not in study.axes else None

    told, lying = [], _common(cell.facts.get("byzantine") for cell in cells)
    attacked = any(attack_of(cell) != "none" for cell in cells)
    where = "edge servers " if common("attack_level") == "edge" else ""
    if common("clients") is not None:
        liars = f" ({lying} {where}malicious)" if lying and attacked else ""
        told.append(f"n = {common('clients')}{liars}")
    if common("participation") not in (None, 1, 1.0):
        told.append(f"{100 * common('participation'):g} % of them per round")
    if common("rounds") is not None:
        told.append(f"{common('rounds')} rounds")
    if attacked and "attack_start" not in study.axes and "attack_rounds" not in study.axes:
        told.append(_common(_schedule(cell) for cell in cells) or "")
    return [part for part in told if part]


def _schedule(cell: CellResult) -> str:
    start, length = attack_start(cell), attack_length(cell)
    if length == 1:
        return f"attacked in round {start} only"
    if length < float("inf"):
        return f"attacked in rounds {start} to {start + int(length) - 1}"
    return f"attacked from round {start} on" if start > 1 else ""


def _seeds(study: StudyResults, std: bool) -> str:
    seeds = sorted({cell.seed for cell in study.cells})
    if len(seeds) < 2:
        return f"seed {seeds[0] if seeds else MISSING}"
    how = "mean ± population std" if std else "mean"
    return f"{how} over seeds {', '.join(map(str, seeds))}"


def _common(values: Any) -> Any:
    """What all are equal to, else None."""
    found = list(dict.fromkeys(values))
    return found[0] if len(found) == 1 else None


def _marks(cells: Cells) -> str:
    found = {cell.facts.get("space") for cell in cells}
    marks = [mark for space, mark in SPACES.items() if space in found]
    return f" ({'/'.join(marks)})" if marks else ""
