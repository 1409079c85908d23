"""Preference file: pairs or single judged answers of your own, one JSON object a line.

Source: the fields of trl's preference and unpaired preference data sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fedalign.core.errors import ConfigError
from fedalign.data.jsonl import Malformed, field
from fedalign.data.text_rows import TextRow, TextSource, Turn, asked


@dataclass(frozen=True)
class PreferenceFile(TextSource):
    """{prompt, chosen, rejected}, with strength in 1 .. 3, score_chosen, score_rejected and topic
    where there are; or {prompt, response, desirable}, for objective=kto. prompt: text, or a list
    of {role, content} (then also called messages) that ends with the user. file: below data.root.
    """

    file: str = "preferences.jsonl"

    name: ClassVar[str] = "preference_file"

    def __post_init__(self) -> None:
        if not self.file:
            raise ConfigError("data.source.file must name a file below data.root.")

    @property
    def files(self) -> Sequence[str]:
        return (self.file,)

    def parse(self, row: Mapping[str, Any]) -> Iterator[TextRow]:
        prompt, topic = _prompt(row), str(row.get("topic") or "")
        if "desirable" in row:
            good, answer = field(row, "desirable", bool), field(row, "response")
            yield TextRow(prompt, answer if good else None, None if good else answer, topic=topic)
            return
        strength = row.get("strength", 1)
        if strength not in (1, 2, 3):
            raise Malformed(f"strength must be 1, 2 or 3, got {strength!r}")
        scores = (1.0, 0.0)
        if "score_chosen" in row or "score_rejected" in row:
            both = (field(row, f"score_{side}", (int, float)) for side in ("chosen", "rejected"))
            first, second = both
            scores = (float(first), float(second))
        yield TextRow(
            prompt, field(row, "chosen"), field(row, "rejected"), strength, scores, topic=topic
        )


def _prompt(row: Mapping[str, Any]) -> Sequence[Turn]:
    given = row.get("messages", row.get("prompt"))
    if not isinstance(given, list):
        return asked(field(row, "prompt"))
    turns = []
    for turn in given:
        if not isinstance(turn, dict) or turn.get("role") not in ("system", "user", "assistant"):
            raise Malformed("a turn of its prompt has no role system, user or assistant")
        turns.append((turn["role"], field(turn, "content")))
    if not turns or turns[-1][0] != "user":
        raise Malformed("its prompt does not end with a turn of the user")
    return tuple(turns)
