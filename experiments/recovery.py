"""Recovery: how long a rule suffers from an attack that has ended.

Per defense and attack: accuracy in the first attacked round t0, at t0 + 5 and at the end, and how
many rounds after the last attacked one the same rule and seed unattacked is no longer ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from experiments.captions import describe, label, named, space_note
from experiments.metrics import metric
from experiments.results import CellResult, StudyResults, grouped, panels
from experiments.scores import LAST, attack_length, attack_start
from experiments.statistics import NO_ATTACK, Scores
from experiments.tables import Notes, check_axis, entry, over_seeds, row_places, seeds_of
from experiments.typeset import MISSING, Entry, Table

SHOWN = ("accuracy_t0", "accuracy_t0_5", "accuracy")
ENDLESS = "The attack does not end, so nothing recovers."
TOO_SHORT = "The run ends before round t0+5."
UNPAIRED = "Needs attack=none with the same rule and seed."


@dataclass(frozen=True)
class Recovery:
    """One row per defense and attack. within: points of accuracy that count as recovered (>= 0)."""

    within: float = 1.0

    def __call__(self, study: StudyResults, name: str = "oneshot") -> list[Table]:
        for axis in ("defense", "attack"):
            check_axis(study, axis)
        cut = panels(study, ("defense", "attack"))
        return [self._table(study, fixed, cells, named(study, name, fixed)) for fixed, cells in cut]

    def _table(
        self,
        study: StudyResults,
        fixed: Mapping[str, str],
        cells: Sequence[CellResult],
        name: str,
    ) -> Table:
        groups, seeds, notes = grouped(cells, ("defense", "attack")), seeds_of(study), Notes()
        rows = []
        for defense, attack in row_places(study, ("defense", "attack"), groups):
            group = groups[defense, attack]
            measured = [entry(group, seeds, [metric(m)], notes) for m in SHOWN]
            if measured[1].text == "n/a":
                measured[1] = replace(measured[1], notes=(notes.number(TOO_SHORT),))
            clean = groups.get((defense, NO_ATTACK), ())
            back = Entry(MISSING) if attack == NO_ATTACK else self._back(group, clean, notes)
            names = [Entry.of(label(study, "defense", defense)), Entry.of(attack)]
            rows.append([*names, *measured, back])
        return Table(
            name=name,
            caption=f"Accuracy in % in the first attacked round t0, at t0+5 and at the end (mean "
            f"of the last {LAST} rounds); {describe(study, cells, fixed)} Recovery: after how many "
            "rounds without attack the accuracy is first within "
            f"{self.within:g} point of the same rule and seed unattacked, round by round; never: "
            "not until the end." + space_note([row[0].text for row in rows]),
            header=["defense", "attack", "t0", "t0+5", "end", "recovery in rounds"],
            rows=rows,
            notes=notes.lines,
            labels=2,
        )

    def _back(
        self, attacked: Sequence[CellResult], clean: Sequence[CellResult], notes: Notes
    ) -> Entry:
        """Mean ± std over the seeds that recover, and how many never do."""
        done = [cell for cell in attacked if cell.status == "done"]
        partner = {cell.seed: cell for cell in clean if cell.status == "done"}
        if not done:
            return Entry(MISSING)
        if all(attack_length(cell) == np.inf for cell in done):
            return Entry("n/a", notes=(notes.number(ENDLESS),))
        taken = {
            cell.seed: rounds_to_recover(cell, partner[cell.seed], self.within)
            for cell in done
            if cell.seed in partner
        }
        known = {seed: rounds for seed, rounds in taken.items() if not np.isnan(rounds)}
        if not known:
            return Entry("n/a", notes=() if taken else (notes.number(UNPAIRED),))
        return _counted(known)


def rounds_to_recover(attacked: CellResult, clean: CellResult, within: float = 1.0) -> float:
    """Rounds after the last attacked one until `clean` is at most `within` points ahead in the
    same round: 0 where it already is in the last attacked round, inf never, NaN not measured."""
    last = attack_start(attacked) + attack_length(attacked) - 1
    ours, theirs = _by_round(attacked), _by_round(clean)
    both = sorted(r for r in ours if r in theirs and r >= last)
    if not both:
        return np.nan
    near = (r for r in both if theirs[r] - ours[r] <= within + 1e-9)  # 95.1 - 94.1 > 1 in binary
    return next(near, np.inf) - last


def _by_round(cell: CellResult) -> dict[float, float]:  # round -> accuracy in %
    pairs = zip(cell.rounds.get("round", ()), cell.rounds.get("accuracy", ()), strict=False)
    return {float(r): 100.0 * float(a) for r, a in pairs if not np.isnan(a)}


def _counted(rounds: Mapping[int, float]) -> Entry:
    back = Scores({seed: value for seed, value in rounds.items() if value < np.inf})
    never = len(rounds) - back.count
    if not back.count:
        return Entry("never", {"never": never})
    shown = over_seeds(back, 0 if back.count == 1 else 1)
    text = shown.text + (f", never in {never} of {len(rounds)}" if never else "")
    return replace(shown, text=text, data={**shown.data, "never": never})
