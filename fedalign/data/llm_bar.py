"""LLMBar: instructions with one answer that follows them and one that only looks as if it did.

Paper: Zeng et al., "Evaluating Large Language Models at Evaluating Instruction Following", ICLR 2024.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fedalign.data.jsonl import Malformed, field
from fedalign.data.text_rows import TextRow, TextSource, asked


@dataclass(frozen=True)
class LlmBar(TextSource):
    """{subset, prompt, output_1, output_2, label}: label 1 or 2 is the better output. The subset is
    the topic that partitions cut by."""

    name: ClassVar[str] = "llmbar"

    @property
    def files(self) -> Sequence[str]:
        return ("llmbar.jsonl", "llmbar/*.jsonl")

    def parse(self, row: Mapping[str, Any]) -> Iterator[TextRow]:
        label = field(row, "label", int)
        if label not in (1, 2):
            raise Malformed(f"label must be 1 or 2, got {label}")
        answers = [field(row, "output_1"), field(row, "output_2")]
        yield TextRow(
            asked(field(row, "prompt")), answers[label - 1], answers[2 - label],
            topic=str(row.get("subset") or ""),
        )  # fmt: skip
