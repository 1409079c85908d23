"""Tables: a study's numbers laid out for a paper.

`Matrix` is metrics over two axes, `Long` several metrics of every cell of the grid. What failed
is shown as failed with its reason, what is missing as "—"; the space a rule tests in is printed
beside its name, because rows of different space must not be compared unknowingly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

from experiments.captions import capital, describe, label, named, space_note
from experiments.metrics import Metric, metric
from experiments.results import (
    UNREACHED,
    CellResult,
    StudyResults,
    everywhere,
    grouped,
    panels,
)
from experiments.statistics import Scores, summarise
from experiments.typeset import MISSING, Entry, Table, number
from fedalign.core.errors import ConfigError, UnknownNameError


@dataclass(frozen=True)
class Matrix:
    """Metrics over two axes, one table per combination of the other axes.

    rows, columns: axes of the study. Of several, the rows are every combination of those that the
    study has, the columns are the first that it has. metric: a name of `experiments.metrics`, or
    several, printed as "a / b" without deviations. direction: what is bold in each column, high,
    low or none; default the metric's own sense, turned round where the rows are attacks (there the
    strongest attack is best), none for several metrics or for attacks within other rows.
    """

    rows: str | Sequence[str] = "defense"
    columns: str | Sequence[str] = "attack"
    metric: str | Sequence[str] = "accuracy"
    direction: Literal["high", "low", "none"] | None = None

    def __post_init__(self):
        for name in several(self.metric):
            metric(name)
        if self.rows == self.columns:
            raise ConfigError(f"A table over '{self.rows}' twice was asked: name two axes.")
        if self.direction not in (None, "high", "low", "none"):
            raise ConfigError(f"direction of a table is high, low or none, got '{self.direction}'.")

    def __call__(self, study: StudyResults, name: str = "main") -> list[Table]:
        rows, column = self.axes(study)
        cut = panels(study, (*rows, column))
        return [
            self._table(study, rows, column, (fixed, cells, named(study, name, fixed)))
            for fixed, cells in cut
        ]

    def fits(self, study: StudyResults) -> bool:
        """Whether the study has axes for rows and for columns."""
        column = next((a for a in several(self.columns) if a in study.axes), None)
        return column is not None and any(
            a in study.axes for a in several(self.rows) if a != column
        )

    def axes(self, study: StudyResults) -> tuple[tuple[str, ...], str]:
        """The axes that make rows and the one that makes columns; UnknownNameError if there are
        none."""
        column = next((a for a in several(self.columns) if a in study.axes), "")
        rows = tuple(a for a in several(self.rows) if a in study.axes and a != column)
        check_axis(study, rows[0] if rows else several(self.rows)[0])
        check_axis(study, column or several(self.columns)[0])
        return rows, column

    def _table(self, study, rows, column, panel) -> Table:
        fixed, cells, name = panel
        measures, notes = [metric(m) for m in several(self.metric)], Notes()
        groups = grouped(everywhere(study, cells, [column]), (*rows, column))
        places, seeds = row_places(study, rows, groups), seeds_of(study)
        still = {at[:-1] for at in grouped(cells, (*rows, column)) if at[-1] == UNREACHED}
        same = f"{column} does not reach this row: one run, the same in every column."
        marks = [(notes.number(same),) if at in still else () for at in places]
        direction = self._direction(rows)
        columns = [
            bold_best(
                [entry(groups.get((*at, c), ()), seeds, measures, notes) for at in places],
                direction,
            )
            for c in study.axes[column]
        ]
        names = [[label(study, a, v) for a, v in zip(rows, at, strict=True)] for at in places]
        heads = [label(study, column, value) for value in study.axes[column]]
        said = " / ".join(m.label for m in measures)
        bold = f" Bold: {direction}est of its column." if direction else ""
        over = "" if column in ("attack", "defense") else f" Columns: {column}."
        return Table(
            name=name,
            caption=f"{capital(said)}; {describe(study, cells, fixed, len(measures) == 1)}{over}{bold}"
            + space_note([*heads, *(text for row in names for text in row)]),
            header=[*rows, *heads],
            rows=[
                [*map(Entry.of, names[i][:-1]), _named(names[i][-1], marks[i]), *entries]
                for i, entries in enumerate(zip(*columns, strict=True))
            ],
            notes=notes.lines,
            labels=len(rows),
        )

    def _direction(self, rows: Sequence[str]) -> str | None:
        if self.direction:
            return None if self.direction == "none" else self.direction
        names = several(self.metric)
        if len(names) > 1 or ("attack" in rows and len(rows) > 1):
            return None
        sense = metric(names[0]).better
        return {"high": "low", "low": "high"}.get(sense) if "attack" in rows else sense


@dataclass(frozen=True)
class Long:
    """One row per cell of the grid, one column per metric that any of them measured."""

    metrics: Sequence[str] = (
        "accuracy", "loss", "damage", "attack_success", "accepted", "fpr", "aggregate_ms", "captured",
        "liars_pay", "consensus_s",
    )  # fmt: skip

    def __call__(self, study: StudyResults, name: str = "main") -> list[Table]:
        measures = [m for m in map(metric, self.metrics) if _measured(m, study)]
        axes, notes = list(study.axes), Notes()
        seeds = seeds_of(study)
        groups = grouped(study.cells, axes)
        at = sorted(
            groups,
            key=lambda values: [_place(study, a, v) for a, v in zip(axes, values, strict=True)],
        )
        rows = []
        for values in at:
            names = [label(study, a, v) for a, v in zip(axes, values, strict=True)] or [study.name]
            cells = [entry(groups[values], seeds, [m], notes) for m in measures]
            rows.append([*map(Entry.of, names), *cells])
        legend = "; ".join(f"{m.name}: {m.label}" for m in measures)
        return [
            Table(
                name=name,
                caption=f"{capital(legend)}; {describe(study, study.cells, {})}"
                + space_note([e.text for row in rows for e in row]),
                header=[*(axes or ["run"]), *(m.name for m in measures)],
                rows=rows,
                notes=notes.lines,
                labels=max(1, len(axes)),
            )
        ]


def _measured(measure: Metric, study: StudyResults) -> bool:
    known = any(measure(cell) == measure(cell) for cell in study.cells)
    return known or measure.name == "accuracy"


def external(rows: Sequence[Mapping[str, Any]], name: str, caption: str) -> Table:
    """A table of rows measured elsewhere (a benchmark): columns in order of first appearance."""
    header = list(dict.fromkeys(key for row in rows for key in row))
    entries = [[Entry.of(row.get(key)) for key in header] for row in rows]
    words = [all(isinstance(row.get(key), str | None) for row in rows) for key in header]
    labels = next((i for i, word in enumerate(words) if not word), len(words))
    return Table(name, caption, header, entries, labels=max(1, labels))


def several(asked: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several, as several."""
    return (asked,) if isinstance(asked, str) else tuple(asked)


def seeds_of(study: StudyResults) -> list[int]:
    """The seeds a study asked for."""
    return sorted({cell.seed for cell in study.cells})


def row_places(
    study: StudyResults, rows: Sequence[str], groups: Mapping[tuple[str, ...], Any]
) -> list[tuple[str, ...]]:
    """Where rows stand on their axes, in order: all values of one axis, else those combinations
    that have cells."""
    have = {at[: len(rows)] for at in groups}
    at = product(*([*study.axes[axis], UNREACHED] for axis in rows))
    return [v for v in at if v in have or (len(rows) == 1 and v != (UNREACHED,))]


class Notes:
    """Footnotes in order of first use, each printed once."""

    def __init__(self):
        self.lines: list[str] = []

    def number(self, line: str) -> int:
        """The number of a footnote, from 1."""
        if line not in self.lines:
            self.lines.append(line)
        return self.lines.index(line) + 1


def entry(
    cells: Sequence[CellResult], seeds: Sequence[int], measures: Sequence[Metric], notes: Notes
) -> Entry:
    """One cell of the grid as printed: what failed, what is missing, else its numbers."""
    failed = [cell for cell in cells if cell.status == "failed"]
    marks = tuple(dict.fromkeys(notes.number(_failure(cells, cell)) for cell in failed))
    done = [cell for cell in cells if cell.status == "done"]
    if not done:
        return Entry("failed", notes=marks) if failed else Entry(MISSING)
    if len(done) + len(failed) < len(seeds):
        have = ", ".join(str(cell.seed) for cell in done)
        marks += (notes.number(f"Not all seeds are there: only {have}."),)
    found = [(measure, summarise(done, measure)) for measure in measures]
    if not any(over.count for _, over in found):
        return Entry("n/a", notes=marks)
    return replace(_shown(found), notes=marks)


def _named(text: str, notes: tuple[int, ...]) -> Entry:
    return replace(Entry.of(text), notes=notes)


def _shown(found: Sequence[tuple[Metric, Scores]]) -> Entry:
    if len(found) == 1:
        measure, over = found[0]
        return over_seeds(over, measure.digits)
    texts = [number(over.mean, m.digits) if over.count else "n/a" for m, over in found]
    data = {f"{m.name} {k}": v for m, over in found for k, v in _numbers(over).items()}
    return Entry(" / ".join(texts), data)


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
