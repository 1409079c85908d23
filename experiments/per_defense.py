"""Per defense: one row each, over all the attacks it met.

`Summary` is the worst case and the interquartile mean, `Ratios` Faker against the best other
attack. Both read the axes `defense` and `attack`, one table per combination of the other axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from experiments.captions import describe, label, named, space_note
from experiments.results import CellResult, StudyResults, grouped, panels
from experiments.statistics import (
    CONTROLS,
    FakerRatio,
    Interval,
    Rival,
    Robustness,
    Worst,
    faker_ratio,
    robustness,
)
from experiments.tables import bold_best, check_axis, over_seeds
from experiments.typeset import MISSING, Entry, Table

Cells = Sequence[CellResult]
Columns = Iterator[tuple[str, Mapping[str, Cells]]]  # defense, attack -> its runs


@dataclass(frozen=True)
class Summary:
    """One row per defense: no attack, worst attack, worst control, attackers removed, IQM."""

    def __call__(self, study: StudyResults, name: str = "summary") -> list[Table]:
        return _per_defense(study, name, self._table)

    def _table(
        self, study: StudyResults, fixed: Mapping[str, str], cells: Cells, name: str
    ) -> Table:
        notes: list[str] = []
        rows = [
            [_name(defense, column, notes), *_robustness_row(robustness(column))]
            for defense, column in _columns(study, cells)
        ]
        return Table(
            name=name,
            caption="Worst case over attacks per defense, accuracy in %; "
            + describe(study, cells, fixed)
            + f" The controls {', '.join(CONTROLS)} are not among the attacks; 'attackers "
            "removed': malicious rows never reach the rule. IQM: interquartile mean over attacks "
            "and seeds, 95 % stratified bootstrap interval."
            + space_note([row[0].text for row in rows]),
            header=[
                "defense", "no attack", "worst attack", "accuracy", "worst control",
                "under control", "attackers removed", "IQM [95 %]",
            ],
            rows=_bold_column(rows, 3),
            notes=notes,
        )  # fmt: skip


@dataclass(frozen=True)
class Ratios:
    """Faker's ratio columns: its accuracy reduction and crafting time against the best other's."""

    def __call__(self, study: StudyResults, name: str = "ratios") -> list[Table]:
        return _per_defense(study, name, self._table)

    def _table(
        self, study: StudyResults, fixed: Mapping[str, str], cells: Cells, name: str
    ) -> Table:
        notes: list[str] = []
        rows = [
            [_name(defense, column, notes), *_ratio_row(faker_ratio(column))]
            for defense, column in _columns(study, cells)
        ]
        return Table(
            name=name,
            caption="Faker against the best other attack; " + describe(study, cells, fixed)
            + " Reduction: points of accuracy lost against the same rule unattacked. Controls are "
            "excluded; n/a where either number is not positive; a ratio of reductions within their "
            "spread says nothing."
            + space_note([row[0].text for row in rows]),
            header=[
                "defense", "best Faker", "reduction", "best other", "other's reduction",
                "reduction Faker / other", "Faker ms", "other ms", "time other / Faker",
            ],
            rows=rows,
            notes=notes,
        )  # fmt: skip


def _name(defense: str, column: Mapping[str, Cells], notes: list[str]) -> Entry:
    """The defense, with a footnote on the attacks it has no finished run of."""
    absent = [a for a, cells in column.items() if not any(c.status == "done" for c in cells)]
    if not absent:
        return Entry.of(defense)
    notes.append(f"Failed or missing, so not counted: {', '.join(absent)}.")
    return Entry(defense, {"value": defense}, notes=(len(notes),))


def _bold_column(rows: list[list[Entry]], column: int) -> list[list[Entry]]:
    marked = bold_best([row[column] for row in rows], "high")
    return [[*row[:column], e, *row[column + 1 :]] for row, e in zip(rows, marked, strict=True)]


def _robustness_row(found: Robustness) -> list[Entry]:
    return [
        over_seeds(found.clean),
        *_worst(found.worst),
        *_worst(found.worst_control),
        over_seeds(found.removed),
        _interval(found.interval),
    ]


def _worst(worst: Worst | None) -> list[Entry]:
    if worst is None:
        return [Entry(MISSING), Entry(MISSING)]
    return [Entry.of(worst.attack), over_seeds(worst.accuracy)]


def _interval(found: Interval | None) -> Entry:
    if found is None:
        return Entry(MISSING)
    data = {"iqm": found.iqm, "low": found.low, "high": found.high}
    return Entry(f"{found.iqm:.1f} [{found.low:.1f}, {found.high:.1f}]", data)


def _ratio_row(found: FakerRatio) -> list[Entry]:
    faker, other = found.faker, found.other
    return [
        *_rival(faker),
        *_rival(other),
        Entry.of(found.reduction, 2),
        Entry.of(faker.craft_ms if faker else None, 2),
        Entry.of(other.craft_ms if other else None, 2),
        Entry.of(found.time, 2),
    ]


def _rival(rival: Rival | None) -> list[Entry]:
    if rival is None:
        return [Entry(MISSING), Entry(MISSING)]
    return [Entry.of(rival.attack), over_seeds(rival.reduction)]


def _per_defense(study: StudyResults, name: str, table: Callable[..., Table]) -> list[Table]:
    for axis in ("defense", "attack"):
        check_axis(study, axis)
    cut = panels(study, ("defense", "attack"))
    return [table(study, fixed, cells, named(study, name, fixed)) for fixed, cells in cut]


def _columns(study: StudyResults, cells: Cells) -> Columns:
    groups = grouped(cells, ("defense", "attack"))
    for defense in study.axes["defense"]:
        column = {a: groups.get((defense, a), ()) for a in study.axes["attack"]}
        yield label(study, "defense", defense), column
