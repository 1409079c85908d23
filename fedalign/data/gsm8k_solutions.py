"""GSM8K solutions: pairs of a right and a wrong solution that models gave to one question.

Paper: Cobbe et al., "Training Verifiers to Solve Math Word Problems", 2021, Section 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fedalign.data.gsm8k import final
from fedalign.data.jsonl import Malformed, Skip, field
from fedalign.data.text_rows import TextRow, TextSource, asked


@dataclass(frozen=True)
class Gsm8kSolutions(TextSource):
    """{question, ground_truth, <model>: {is_correct, solution}, ...}: the first right solution
    against the first wrong one; questions that have only one kind are left out and counted. Do not
    test a model on the questions that it was tuned on here."""

    name: ClassVar[str] = "gsm8k_solutions"
    checked: ClassVar[bool] = True

    @property
    def files(self) -> Sequence[str]:
        return ("gsm8k_model_solutions.jsonl", "gsm8k/example_model_solutions.jsonl")

    def parse(self, row: Mapping[str, Any]) -> Iterator[TextRow]:
        question, truth = field(row, "question"), final(field(row, "ground_truth"))
        if truth is None:
            raise Malformed("its ground_truth has no number")
        kinds: dict[bool, list[str]] = {True: [], False: []}
        for entry in row.values():
            if isinstance(entry, dict) and "solution" in entry:
                solution = str(entry["solution"])
                if solution.strip():
                    kinds[field(entry, "is_correct", bool)].append(solution)
        if not kinds[True] or not kinds[False]:
            raise Skip("no right or no wrong solution")
        yield TextRow(asked(question), kinds[True][0], kinds[False][0], truth=truth)

    def right(self, answer: str, truth: str) -> bool:
        return final(answer) == truth
