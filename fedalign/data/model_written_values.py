"""Model-written values: statements that show a trait, one group of values per client if asked.

Paper: Perez et al., "Discovering Language Model Behaviors with Model-Written Evaluations", 2022.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from fedalign.core.errors import ConfigError
from fedalign.data.jsonl import Skip, field
from fedalign.data.text_rows import TextRow, TextSource, asked


@dataclass(frozen=True)
class ModelWrittenValues(TextSource):
    """{group, collection, question, matching, not_matching, label_confidence}. The group is the
    topic that partitions cut by: partition=classes partition.per_client=1 gives every client one.

    prefer: matching, the answer that shows the trait (which need not be desirable), or
    not_matching. groups: those to read, null: all. confidence: rows of less are left out (in
    [0, 1]; rows written by people have none and stay).
    """

    prefer: Literal["matching", "not_matching"] = "matching"
    groups: Sequence[str] | None = None
    confidence: float = 0.0

    name: ClassVar[str] = "model_written_values"

    def __post_init__(self) -> None:
        if self.prefer not in ("matching", "not_matching"):
            raise ConfigError(
                f"data.source.prefer must be matching or not_matching, got {self.prefer!r}."
            )
        if not 0 <= self.confidence <= 1:
            raise ConfigError(f"data.source.confidence must lie in [0, 1], got {self.confidence}.")

    @property
    def files(self) -> Sequence[str]:
        return ("model_written_values.jsonl", "model_written_values/*.jsonl")

    def parse(self, row: Mapping[str, Any]) -> Iterator[TextRow]:
        group, sure = field(row, "group"), row.get("label_confidence")
        if self.groups is not None and group not in self.groups:
            raise Skip("its group was not asked for")
        if sure is not None and sure < self.confidence:
            raise Skip(f"its label's confidence is below {self.confidence}")
        answers = {name: field(row, name).strip() for name in ("matching", "not_matching")}
        other = "not_matching" if self.prefer == "matching" else "matching"
        yield TextRow(
            asked(field(row, "question")), answers[self.prefer], answers[other], topic=group
        )
