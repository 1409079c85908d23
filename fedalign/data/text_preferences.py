"""Preferences in text: read from files below data.root, split by prompt, turned into tokens.

Source: own construction; each schema's paper stands in its source's module.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from fedalign.core.errors import ConfigError, DataError
from fedalign.data.files import GROUPS
from fedalign.data.jsonl import read
from fedalign.data.text_rows import TextRow, TextSource, Turn

Part = Literal["train", "public", "eval"]


class Language(Protocol):
    """How a model reads and writes text. end: the token that ends an answer."""

    end: int

    def prompt(self, turns: Sequence[Turn]) -> list[int]: ...

    def answer(self, text: str) -> list[int]: ...


@dataclass(frozen=True)
class Read:
    """What a source held. rows: in file order, of one part of the prompts. skipped: reason ->
    lines left out. files: where they came from."""

    rows: Sequence[TextRow]
    skipped: Counter
    files: Sequence[Path]

    def part(self, part: Part) -> list[TextRow]:
        """The rows whose prompts belong to a part; no prompt is in two."""
        return [row for row in self.rows if part_of(row.turns) == part]


@dataclass(frozen=True)
class TextPreferences:
    """source: the schema. root: the folder of the files. strict: a damaged line is an error that
    names it; else such lines are counted and left out. limit: rows for clients at most, null: all.
    root_samples: pairs the server holds, held_out: test pairs, at most. evaluation: test prompts
    answered in every evaluation (0: none, which saves most of its time). answer_tokens: of such an
    answer at most. max_tokens: of prompt and answer together, at least 8. overlong: what happens to
    longer rows: truncate (the prompt from the left, the answer from the right, which then has no
    end mark) or drop; both are counted.

    Nothing is downloaded. No prompt is in two of train, public and eval: a hash of its text decides.
    """

    source: TextSource
    root: str | None = None
    strict: bool = True
    limit: int | None = None
    root_samples: int = 100
    held_out: int = 256
    evaluation: int = 32
    answer_tokens: int = 64
    max_tokens: int = 512
    overlong: Literal["truncate", "drop"] = "truncate"

    def __post_init__(self) -> None:
        for name, least in (
            ("root_samples", 1), ("held_out", 1), ("evaluation", 0), ("answer_tokens", 1),
            ("max_tokens", 8),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ConfigError(
                    f"data.{name} must be {least} or more, got {getattr(self, name)}."
                )
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"data.limit must be 1 or more, or null for all, got {self.limit}.")
        if self.overlong not in ("truncate", "drop"):
            raise ConfigError(f"data.overlong must be truncate or drop, got {self.overlong!r}.")

    def load(self) -> Read:
        """Every row of every file. DataError where there is no file, or no usable row."""
        files, skipped, found = self._files(), Counter(), []
        for file in files:
            found += list(read(file, self.source.parse, self.strict, skipped))
        rows = self.source.gathered(found, skipped)
        rows = [row for row in rows if _differ(row, skipped)]
        if not rows:
            reasons = "; ".join(f"{n} because {why}" for why, n in skipped.most_common(3))
            raise DataError(
                f"data={self.source.name}: no row of {', '.join(map(str, files))} can be used"
                f"{f' ({reasons})' if reasons else ''}."
            )
        return Read(rows, skipped, files)

    def _files(self) -> list[Path]:
        name, patterns = self.source.name, self.source.files
        if self.root is None:
            raise DataError(
                f"data={name} reads files: say where with data.root=FOLDER, a folder that holds "
                f"{patterns[0]} (.gz is fine). Nothing is ever downloaded; data=graded_facts needs "
                "no file."
            )
        base = Path(self.root).expanduser()
        for group in GROUPS:
            found = {
                path.resolve()
                for pattern in patterns
                for ending in ("", ".gz")
                for path in (base / group).glob(pattern + ending)
                if path.is_file()
            }
            if found:
                return sorted(found)
        raise DataError(
            f"data={name}: none of {', '.join(patterns)} (or with .gz) lies in {base} or "
            f"{base}/preference. Put the files there or correct data.root."
        )

    def tokens(
        self, rows: Sequence[TextRow], language: Language, skipped: Counter
    ) -> list[tuple[TextRow, list[int], list[list[int]]]]:
        """(row, prompt, answers) of every row that fits; answers: of the chosen and the rejected
        side, without the side that is not there."""
        kept = []
        for row in rows:
            prompt = language.prompt(row.turns)
            sides = [s for s in (row.chosen, row.rejected) if s is not None]
            answers = [[*language.answer(side), language.end] for side in sides]
            if len(prompt) + max(map(len, answers)) > self.max_tokens:
                skipped[f"it was longer than data.max_tokens={self.max_tokens}"] += 1
                if self.overlong == "drop":
                    continue
                prompt, answers = cut(prompt, answers, self.max_tokens)
            kept.append((row, prompt, answers))
        return kept


def cut(
    prompt: list[int], answers: Sequence[list[int]], most: int
) -> tuple[list[int], list[list[int]]]:
    """The prompt loses its beginning, down to half of `most`; then answers lose their ends."""
    room = max(most - max(map(len, answers)), most // 2)
    prompt = prompt[-min(room, len(prompt)) :]
    return prompt, [answer[: most - len(prompt)] for answer in answers]


def part_of(turns: Sequence[Turn]) -> Part:
    """Ten percent of the prompts are eval, ten public, the rest train."""
    text = "\n".join(f"{role}: {said}" for role, said in turns)
    place = hashlib.sha256(text.encode()).digest()[0] % 10
    return "eval" if place == 0 else "public" if place == 1 else "train"


def topics(rows: Sequence[TextRow]) -> np.ndarray:
    """(N,), the number of each row's topic in the sorted list of all."""
    known = {topic: i for i, topic in enumerate(sorted({row.topic for row in rows}))}
    return np.array([known[row.topic] for row in rows], dtype=np.int64)


def _differ(row: TextRow, skipped: Counter) -> bool:
    """Two equal answers say nothing."""
    same = row.chosen is not None and row.chosen == row.rejected
    skipped["both answers are the same"] += same
    return not same
