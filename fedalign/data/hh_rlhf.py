"""hh-rlhf: pairs of dialogues between a human and an assistant that differ in the last answer.

Paper: Bai et al., "Training a Helpful and Harmless Assistant with Reinforcement Learning from Human
Feedback", 2022.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fedalign.data.jsonl import Malformed, Skip, field
from fedalign.data.text_rows import TextRow, TextSource, Turn

_MARK = re.compile(r"\n\nHuman:|\n\nAssistant:")
_ANSWER = "\n\nAssistant:"


@dataclass(frozen=True)
class HhRlhf(TextSource):
    """{chosen, rejected}: whole dialogues. What both share up to the last `\\n\\nAssistant:` is the
    prompt; rows whose prompts differ or whose answer is empty are left out and counted. subset:
    part of a file's or folder's name, such as harmless-base; null: all that is found. show: whether
    samples go into the report, for many of these dialogues are harmful requests."""

    subset: str | None = None
    show: bool = False

    name: ClassVar[str] = "hh_rlhf"

    @property
    def shown(self) -> bool:
        return self.show

    @property
    def files(self) -> Sequence[str]:
        if self.subset is None:
            return ("hh-rlhf/*/train.jsonl", "hh-rlhf/*/test.jsonl", "hh_*.jsonl")
        plain = self.subset.replace("-", "_")
        return (
            f"hh-rlhf/{self.subset}/train.jsonl", f"hh-rlhf/{self.subset}/test.jsonl",
            f"hh_{plain}*.jsonl",
        )  # fmt: skip

    def parse(self, row: Mapping[str, Any]) -> Iterator[TextRow]:
        sides = []
        for name in ("chosen", "rejected"):
            prompt, mark, answer = field(row, name).rpartition(_ANSWER)
            if not mark:
                raise Malformed(f"'{name}' has no turn of the assistant")
            if not answer.strip():
                raise Skip("an answer is empty")  # the published files hold such rows
            sides.append((prompt, answer.strip()))
        if sides[0][0] != sides[1][0]:
            raise Skip("the prompts of both answers differ")
        yield TextRow(turns(sides[0][0]), sides[0][1], sides[1][1])


def turns(dialogue: str) -> tuple[Turn, ...]:
    """`\\n\\nHuman: ...\\n\\nAssistant: ...` -> its turns; Malformed unless a human speaks last."""
    marks, found = list(_MARK.finditer(dialogue)), []
    for mark, after in zip(marks, [*marks[1:], None], strict=True):
        text = dialogue[mark.end() : None if after is None else after.start()].strip()
        role = "user" if "Human" in mark.group() else "assistant"
        if text:
            found.append((role, text))
    if not found or found[-1][0] != "user":
        raise Malformed("its prompt does not end with a turn of the human")
    return tuple(found)
