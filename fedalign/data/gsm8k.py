"""GSM8K: grade-school mathematics; the number after `####` tells whether an answer is right.

Paper: Cobbe et al., "Training Verifiers to Solve Math Word Problems", 2021.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fedalign.data.jsonl import Malformed, field
from fedalign.data.text_rows import TextRow, TextSource, asked

_FINAL = re.compile(r"####\s*(-?\$?[\d,]*\.?\d+)")
_NUMBER = re.compile(r"-?\$?[\d,]*\.?\d+")


@dataclass(frozen=True)
class Gsm8k(TextSource):
    """{question, answer}: single good answers (for objective=sft, or an online objective, whose
    reward is 1 for a right number). part: train or test, of the file's name.
    """

    part: str = "train"

    name: ClassVar[str] = "gsm8k"
    checked: ClassVar[bool] = True

    @property
    def files(self) -> Sequence[str]:
        return (f"gsm8k_{self.part}.jsonl", f"gsm8k/{self.part}.jsonl")

    def parse(self, row: Mapping[str, Any]) -> Iterator[TextRow]:
        answer = field(row, "answer")
        truth = final(answer)
        if truth is None or "####" not in answer:
            raise Malformed("its answer has no number after ####")
        yield TextRow(asked(field(row, "question")), answer, None, truth=truth)

    def right(self, answer: str, truth: str) -> bool:
        return final(answer) == truth


def final(answer: str) -> str | None:
    """The number after ####, else the last number; without commas, dollar signs and zeros behind
    the point. None where there is none."""
    marked = _FINAL.findall(answer)
    found = marked or _NUMBER.findall(answer)
    if not found:
        return None
    text = found[-1].replace(",", "").replace("$", "")
    value = float(text)
    return str(int(value)) if value == int(value) else repr(value)
