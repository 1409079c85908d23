"""Pooled: rows of measurements over several seeds, as one row with mean and 95 % interval.

Numbers become mean [low, high] of a bootstrap over seeds, truths k/n, words stay if all agree
and are counted if not; a column named as `worst` shows the largest value of all seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.tables import external
from experiments.typeset import Entry, Table
from fedalign.core.seeds import Seeds

Row = Mapping[str, Any]
REPETITIONS, TAIL = 2000, 2.5  # of the bootstrap; percent outside on each side


def pooled(
    rows: Sequence[Row], by: Sequence[str], over: str, worst: Sequence[str], name: str, caption: str
) -> Table:
    """One row per combination of the columns `by`, in order of appearance; `over` disappears."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key != over))
    by = [column for column in by if column in columns]
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row.get(column)) for column in by), []).append(row)
    header = [*by, *(c for c in columns if c not in by)]
    if max(map(len, groups.values())) == 1:
        return external([{c: row.get(c) for c in header} for row in rows], name, caption)
    lines = [
        [*(Entry.of(group[0].get(column)) for column in by),
         *(_entry([row.get(c) for row in group], c in worst) for c in header[len(by) :])]
        for group in groups.values()
    ]  # fmt: skip
    values = {str(row.get(over)) for row in rows}
    told = f"{caption}; mean [95 % bootstrap interval] over {len(values)} x {over}"
    shown = [c for c in header if c in worst]
    told += f"; worst case of {', '.join(shown)}." if shown else "."
    return Table(name, told, header, lines, labels=max(1, len(by)))


def _entry(values: Sequence[Any], worst: bool) -> Entry:
    known = [v for v in values if v is not None]
    if not known:
        return Entry.of(None)
    if all(isinstance(v, bool) for v in known):
        share = sum(known) / len(known)
        return Entry(f"{sum(known)}/{len(known)}", {"share": share})
    if not all(isinstance(v, int | float) for v in known):
        counts = Counter(map(str, known))
        one = len(counts) == 1
        return Entry(
            next(iter(counts)) if one else ", ".join(f"{n} {w}" for w, n in counts.items())
        )
    numbers = np.array(known, dtype=np.float64)
    numbers = numbers[~np.isnan(numbers)]
    if not len(numbers):
        return Entry.of(float("nan"))
    if worst:
        return Entry(f"{numbers.max():.1e}", {"max": float(numbers.max())})
    return _interval(numbers)


def _interval(numbers: np.ndarray) -> Entry:
    mean = float(numbers.mean())
    if np.ptp(numbers) <= 1e-12 * abs(mean):
        return Entry(f"{mean:.4g}", {"mean": mean, "low": mean, "high": mean})
    rng = Seeds(0).at("bootstrap")
    drawn = numbers[rng.integers(len(numbers), size=(REPETITIONS, len(numbers)))].mean(axis=1)
    low, high = np.percentile(drawn, [TAIL, 100 - TAIL])
    text = f"{mean:.4g} [{low:.3g}, {high:.3g}]"
    return Entry(text, {"mean": mean, "low": float(low), "high": float(high)})
