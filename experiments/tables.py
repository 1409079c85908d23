"""Tables: a study's numbers laid out for a paper.

`Matrix` is one metric over two axes, `Long` several metrics of every cell of the grid. What failed
is shown as failed with its reason, what is missing as "—"; the space a rule tests in is printed
beside its name, because rows of different space must not be compared unknowingly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from experiments.metrics import Metric, metric
from experiments.results import CellResult, StudyResults, grouped, panels
from experiments.statistics import Scores, summarise
from experiments.typeset import MISSING, Entry, Table, number
from fedalign.core.errors import ConfigError, UnknownNameError

SPACES = {"model": "M", "update": "U"}
DESCRIBED = {
    "attack": "attack {}",
    "defense": "defense {}",
    "clients": "n = {} clients",
    "byzantine_fraction": "malicious share {}",
    "rounds": "{} rounds",
    "data": "data {}",
    "partition": "partition {}",
    "attack_start": "attack from round {}",
}
SPACE_NOTE = "(M)/(U): the rule tests models/updates; compare rows of one space only."


@dataclass(frozen=True)
class Matrix:
    """One metric over two axes, one table per combination of the other axes.

    rows, columns: axes of the study. metric: a name of `experiments.metrics`. direction: what is
    bold in each column, high, low or none; default the metric's own sense, turned round where the
    rows are attacks (there the strongest attack is best).
    """

    rows: str = "defense"
    columns: str = "attack"
    metric: str = "accuracy"
    direction: Literal["high", "low", "none"] | None = None

    def __post_init__(self):
        metric(self.metric)
        if self.rows == self.columns:
            raise ConfigError(f"A table over '{self.rows}' twice was asked: name two axes.")
        if self.direction not in (None, "high", "low", "none"):
            raise ConfigError(f"direction of a table is high, low or none, got '{self.direction}'.")

    def __call__(self, study: StudyResults, name: str = "main") -> list[Table]:
        for axis in (self.rows, self.columns):
            check_axis(study, axis)
        cut = panels(study, (self.rows, self.columns))
        return [self._table(study, fixed, cells, named(name, fixed)) for fixed, cells in cut]

    def _table(self, study, fixed, cells, name) -> Table:
        measure, direction = metric(self.metric), self._direction()
        groups, notes = grouped(cells, (self.rows, self.columns)), _Notes()
        seeds = sorted({cell.seed for cell in study.cells})
        columns = [
            bold_best(
                [
                    _entry(groups.get((r, c), ()), seeds, measure, notes)
                    for r in study.axes[self.rows]
                ],
                direction,
            )
            for c in study.axes[self.columns]
        ]
        labels = [label(study, self.rows, value) for value in study.axes[self.rows]]
        heads = [label(study, self.columns, value) for value in study.axes[self.columns]]
        bold = f" Bold: {direction}est of its column." if direction else ""
        return Table(
            name=name,
            caption=f"{_capital(measure.label)}; {describe(study, cells, fixed)}{bold}"
            + space_note([*labels, *heads]),
            header=[self.rows, *heads],
            rows=[
                [Entry.of(labels[i]), *entries]
                for i, entries in enumerate(zip(*columns, strict=True))
            ],
            notes=notes.lines,
        )

    def _direction(self) -> str | None:
        if self.direction:
            return None if self.direction == "none" else self.direction
        sense = metric(self.metric).better
        return {"high": "low", "low": "high"}.get(sense) if self.rows == "attack" else sense


@dataclass(frozen=True)
class Long:
    """One row per cell of the grid, one column per metric."""

    metrics: Sequence[str] = ("accuracy", "loss", "damage", "accepted", "fpr", "aggregate_ms")

    def __call__(self, study: StudyResults, name: str = "main") -> list[Table]:
        measures, axes, notes = [metric(m) for m in self.metrics], list(study.axes), _Notes()
        seeds = sorted({cell.seed for cell in study.cells})
        groups = grouped(study.cells, axes)
        at = sorted(
            groups,
            key=lambda values: [_place(study, a, v) for a, v in zip(axes, values, strict=True)],
        )
        rows = []
        for values in at:
            names = [label(study, a, v) for a, v in zip(axes, values, strict=True)] or [study.name]
            cells = [_entry(groups[values], seeds, m, notes) for m in measures]
            rows.append([*map(Entry.of, names), *cells])
        legend = "; ".join(f"{m.name}: {m.label}" for m in measures)
        return [
            Table(
                name=name,
                caption=f"{describe(study, study.cells, {})} {_capital(legend)}."
                + space_note([e.text for row in rows for e in row]),
                header=[*(axes or ["run"]), *(m.name for m in measures)],
                rows=rows,
                notes=notes.lines,
                labels=max(1, len(axes)),
            )
        ]


def external(rows: Sequence[Mapping[str, Any]], name: str, caption: str) -> Table:
    """A table of rows measured elsewhere (a benchmark): columns in order of first appearance."""
    header = list(dict.fromkeys(key for row in rows for key in row))
    entries = [[Entry.of(row.get(key)) for key in header] for row in rows]
    words = [all(isinstance(row.get(key), str | None) for row in rows) for key in header]
    labels = next((i for i, word in enumerate(words) if not word), len(words))
    return Table(name, caption, header, entries, labels=max(1, labels))


def label(study: StudyResults, axis: str, value: str) -> str:
    """A value as printed; a defense with the space it tests in."""
    if axis != "defense":
        return value
    return value + _marks([cell for cell in study.cells if cell.axes.get("defense") == value])


def describe(study: StudyResults, cells: Sequence[CellResult], fixed: Mapping[str, str]) -> str:
    """What a caption must say: how scored, how many seeds and clients, on what."""
    seeds = sorted({cell.seed for cell in study.cells})
    parts = [
        f"mean ± population std over {len(seeds)} seeds ({', '.join(map(str, seeds))})"
        if len(seeds) > 1
        else f"one seed ({seeds[0] if seeds else MISSING})"
    ]
    for key, text in DESCRIBED.items():
        found = {_worded(cell.config[key]) for cell in cells if cell.config.get(key) is not None}
        if len(found) == 1 and key not in study.axes:
            marks = _marks(cells) if key == "defense" else ""
            parts.append(text.format(found.pop() + marks))
    parts += [f"{axis} = {label(study, axis, value)}" for axis, value in fixed.items()]
    return "; ".join(parts) + "."


class _Notes:
    """Footnotes in order of first use, each printed once."""

    def __init__(self):
        self.lines: list[str] = []

    def number(self, line: str) -> int:
        if line not in self.lines:
            self.lines.append(line)
        return self.lines.index(line) + 1


def _entry(
    cells: Sequence[CellResult], seeds: Sequence[int], measure: Metric, notes: _Notes
) -> Entry:
    failed = [cell for cell in cells if cell.status == "failed"]
    marks = tuple(dict.fromkeys(notes.number(_failure(cells, cell)) for cell in failed))
    done = [cell for cell in cells if cell.status == "done"]
    if not done:
        return Entry("failed", notes=marks) if failed else Entry(MISSING)
    if len(done) + len(failed) < len(seeds):
        have = ", ".join(str(cell.seed) for cell in done)
        marks += (notes.number(f"Not all seeds are there: only {have}."),)
    over = summarise(done, measure)
    if not over.count:
        return Entry("n/a", notes=marks)
    return replace(over_seeds(over, measure.digits), notes=marks)


def _failure(cells: Sequence[CellResult], failed: CellResult) -> str:
    where = f"Seed {failed.seed} failed" if len(cells) > 1 else "Failed"
    same = [cell.seed for cell in cells if cell.status == "failed" and cell.reason == failed.reason]
    if len(same) == len(cells) > 1:
        where = "All seeds failed"
    return f"{where}: {failed.reason or 'no reason was recorded'}"


def _numbers(over: Scores) -> dict[str, Any]:
    numbers: dict[str, Any] = {"mean": over.mean, "std": over.std, "seeds": over.count}
    interval = over.interval
    if interval:
        numbers |= {"iqm": interval.iqm, "low": interval.low, "high": interval.high}
    return numbers


def bold_best(entries: Sequence[Entry], direction: str | None) -> list[Entry]:
    """The best of a column, all of them where they print the same mean; nothing if all are."""
    means = [float(e.text.split("±")[0]) if "mean" in e.data else None for e in entries]
    known = [m for m in means if m is not None]
    if direction is None or len(set(known)) < 2:
        return list(entries)
    best = max(known) if direction == "high" else min(known)
    return [replace(e, best=m == best) for e, m in zip(entries, means, strict=True)]


def over_seeds(over: Scores, digits: int = 1) -> Entry:
    """mean±std, the mean alone for a single seed."""
    if not over.count:
        return Entry(MISSING)
    text = number(over.mean, digits)
    return Entry(text if over.count == 1 else f"{text}±{number(over.std, digits)}", _numbers(over))


def check_axis(study: StudyResults, axis: str) -> None:
    """UnknownNameError listing the study's axes."""
    if axis not in study.axes:
        raise UnknownNameError("axis of this study", axis, study.axes)


def _place(study: StudyResults, axis: str, value: str) -> int:
    values = list(study.axes[axis])
    return values.index(value) if value in values else len(values)


def named(name: str, fixed: Mapping[str, str]) -> str:
    """The name of one of several panels."""
    return "__".join([name, *(f"{axis}-{value}" for axis, value in fixed.items())])


def _marks(cells: Sequence[CellResult]) -> str:
    found = {cell.facts.get("space") for cell in cells}
    marks = [mark for space, mark in SPACES.items() if space in found]
    return f" ({'/'.join(marks)})" if marks else ""


def _worded(value: Any) -> str:
    if isinstance(value, Mapping):
        target = str(value.get("_target_", value.get("name", "given"))).rsplit(".", 1)[-1]
        simple = [
            f"{k}={v}"
            for k, v in value.items()
            if k != "_target_" and isinstance(v, int | float | str)
        ]
        return f"{target}({', '.join(simple)})" if simple else target
    return str(value)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def space_note(labels: Sequence[str]) -> str:
    """What (M) and (U) mean, where they are printed."""
    shown = any(text.endswith(("(M)", "(U)", "(M/U)")) for text in labels)
    return f" {SPACE_NOTE}" if shown else ""
