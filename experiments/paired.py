"""Paired: one rule against the others, seed by seed.

Differences of the same seed cancel what the seed did to both (data, outages, devices); the
interval is a bootstrap over seeds. Where the other rule is better the table says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.captions import describe, named
from experiments.metrics import metric
from experiments.results import CellResult, StudyResults, grouped, panels
from experiments.tables import check_axis
from experiments.typeset import MISSING, Entry, Table
from fedalign.core.seeds import Seeds

REPETITIONS, TAIL = 2000, 2.5  # of the bootstrap; percent outside on each side


@dataclass(frozen=True)
class Against:
    """rule minus every other value of `rows`, over `columns`. rule: a value of `rows`. measure: a
    metric. A positive number is in favour of `rule` where the metric is better when high."""

    rule: str = "hieavg"
    rows: str = "defense"
    columns: str = "stragglers"
    measure: str = "accuracy"

    def __call__(self, study: StudyResults, name: str = "against") -> list[Table]:
        for axis in (self.rows, self.columns):
            check_axis(study, axis)
        if self.rule not in study.axes[self.rows]:
            return []
        cut = panels(study, (self.rows, self.columns))
        return [self._table(study, fixed, cells, named(study, name, fixed)) for fixed, cells in cut]

    def _table(
        self,
        study: StudyResults,
        fixed: Mapping[str, str],
        cells: Sequence[CellResult],
        name: str,
    ) -> Table:
        groups, columns = grouped(cells, (self.rows, self.columns)), study.axes[self.columns]
        others = [value for value in study.axes[self.rows] if value != self.rule]
        rows = [
            [
                Entry.of(other),
                *(self._entry(groups.get((self.rule, c), ()), groups.get((other, c), ()))
                  for c in columns),
            ]
            for other in others
        ]  # fmt: skip
        said = metric(self.measure)
        return Table(
            name=name,
            caption=f"{self.rule} minus the rule of the row: {said.label}; mean [95 % bootstrap "
            f"interval] of the differences of the same seed; +: {self.rule} is better, -: the "
            f"other is, ~: the interval holds 0; {describe(study, cells, fixed, False)}",
            header=[self.rows, *columns],
            rows=rows,
            labels=1,
        )

    def _entry(self, ours: Sequence[CellResult], theirs: Sequence[CellResult]) -> Entry:
        said = metric(self.measure)
        known = {cell.seed: said(cell) for cell in theirs}
        pairs = [(said(cell), known[cell.seed]) for cell in ours if cell.seed in known]
        apart = np.array([a - b for a, b in pairs])
        apart = apart[~np.isnan(apart)]
        if not len(apart):
            return Entry(MISSING)
        digits = said.digits
        if len(apart) == 1:  # one seed says nothing of the others
            return Entry(f"{apart[0]:+.{digits}f}", {"mean": float(apart[0])})
        mean, low, high = interval(apart)
        better = 0 if low <= 0 <= high else (1 if (mean > 0) == (said.better != "low") else -1)
        mark = {1: "+", -1: "-", 0: "~"}[better]
        text = f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}] {mark}"
        return Entry(text, {"mean": mean, "low": low, "high": high, "better": better})


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of (n,) values and the 95 % bootstrap interval of it; of one value, that value."""
    rng = Seeds(0).at("bootstrap")
    drawn = values[rng.integers(len(values), size=(REPETITIONS, len(values)))].mean(axis=1)
    low, high = np.percentile(drawn, [TAIL, 100 - TAIL])
    return float(values.mean()), float(low), float(high)
