"""PandaLM: answers of two models to an instruction, judged by three people.

Paper: Wang et al., "PandaLM: An Automatic Evaluation Benchmark for LLM Instruction Tuning
Optimization", ICLR 2024.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from fedalign.core.errors import ConfigError
from fedalign.data.jsonl import Malformed, Skip, field
from fedalign.data.text_rows import TextRow, TextSource, asked


@dataclass(frozen=True)
class PandaLm(TextSource):
    """{instruction, input, response1, response2, annotator1 .. annotator3}: "1" or "2" is the
    better answer, "0" a tie. judge: majority, or 1, 2, 3 for one annotator's view; ties are left
    out and counted. strength: how many of three agree with the label (1 for one annotator)."""

    judge: Literal["majority", 1, 2, 3] = "majority"

    name: ClassVar[str] = "pandalm"

    def __post_init__(self) -> None:
        if self.judge not in ("majority", 1, 2, 3):
            raise ConfigError(f"data.source.judge must be majority, 1, 2 or 3, got {self.judge!r}.")

    @property
    def files(self) -> Sequence[str]:
        return ("pandalm_testset.jsonl", "pandalm.jsonl", "pandalm/*.jsonl")

    def parse(self, row: Mapping[str, Any]) -> Iterator[TextRow]:
        votes = [str(field(row, f"annotator{i}", (str, int))) for i in (1, 2, 3)]
        if set(votes) - {"0", "1", "2"}:
            raise Malformed(f"an annotator's vote is none of 0, 1 and 2: {votes}")
        if self.judge != "majority":
            votes = [votes[self.judge - 1]]
        first, second = votes.count("1"), votes.count("2")
        if first == second or max(first, second) * 2 <= len(votes):
            raise Skip("the annotators see a tie")
        answers = [_text(row, "response1"), _text(row, "response2")]
        if not all(answers):
            raise Skip("an answer is empty")  # as in the published test set
        best = 0 if first > second else 1
        prompt = f"{_text(row, 'instruction')}\n{_text(row, 'input')}".strip()
        if not prompt:
            raise Malformed("its instruction is empty")
        yield TextRow(
            asked(prompt), answers[best], answers[1 - best],
            strength=max(first, second), topic=str(row.get("motivation_app") or ""),
        )  # fmt: skip


def _text(row: Mapping[str, Any], name: str) -> str:
    """A field that may be blank; the published file writes the answers "True" and "False" bare."""
    value = row.get(name)
    if not isinstance(value, str | bool | None):
        raise Malformed(f"field '{name}' holds a {type(value).__name__}")
    return "" if value is None else str(value).strip()
