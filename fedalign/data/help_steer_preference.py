"""HelpSteer2-Preference: two answers and how much one is preferred, from -3 to 3.

Paper: Wang et al., "HelpSteer2-Preference: Complementing Ratings with Preferences", 2024.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fedalign.data.jsonl import Malformed, Skip, field
from fedalign.data.text_rows import TextRow, TextSource, asked


@dataclass(frozen=True)
class HelpSteerPreference(TextSource):
    """{prompt, response_1, response_2, preference_strength}: below 0 the first answer is preferred,
    the size is the strength; zeros are left out and counted. part: train or validation, as in the
    field `split`; null: both."""

    part: str | None = None

    name: ClassVar[str] = "helpsteer2_preference"

    @property
    def files(self) -> Sequence[str]:
        return ("helpsteer2_preference.jsonl", "helpsteer2-preference/*.jsonl", "preference.jsonl")

    def parse(self, row: Mapping[str, Any]) -> Iterator[TextRow]:
        if self.part is not None and field(row, "split") != self.part:
            raise Skip(f"it is not of the part '{self.part}'")
        answers = [field(row, "response_1"), field(row, "response_2")]
        strength = field(row, "preference_strength", int)
        if not -3 <= strength <= 3:
            raise Malformed(f"preference_strength lies outside -3 .. 3: {strength}")
        if strength == 0:
            raise Skip("neither answer is preferred")
        best = 0 if strength < 0 else 1
        yield TextRow(
            asked(field(row, "prompt")), answers[best], answers[1 - best], strength=abs(strength)
        )
