"""Claim: a sentence that somebody says, and how a study's numbers decide it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.judges import Board, Judge, NotMeasured
from experiments.results import CellResult, StudyResults

Outcome = Literal["holds", "does not hold", "not measured here"]


@dataclass(frozen=True)
class Verdict:
    """What a study says of a claim. evidence: the numbers, or what is missing."""

    outcome: Outcome
    evidence: str


@dataclass(frozen=True)
class Claim:
    """id: short, stable. source: who says so. judge: Board -> (whether it holds, evidence)."""

    id: str
    sentence: str
    source: str
    judge: Judge

    def __call__(self, study: StudyResults, cells: Sequence[CellResult] | None = None) -> Verdict:
        """Judged on `cells`, default all of the study's."""
        try:
            holds, evidence = self.judge(Board(study.cells if cells is None else cells))
        except NotMeasured as missing:
            return Verdict("not measured here", f"needs {missing}")
        return Verdict("holds" if holds else "does not hold", evidence)
