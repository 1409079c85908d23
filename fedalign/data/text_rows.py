"""Preference data in words, before any tokenizer: a dialogue and what may follow it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

Turn = tuple[str, str]  # role (system, user or assistant), text


@dataclass(frozen=True)
class TextRow:
    """One judged pair, or one judged answer.

    turns: the prompt, its last turn the user's. chosen, rejected: answers; None where a row holds
    a single answer, desirable (chosen) or not (rejected). strength: 1 .. 3. scores: what both are
    worth. ratings: attributes of both, as in `TextSource.attributes`. topic: what a partition cuts
    by. truth: the right final answer, where answers can be checked.
    """

    turns: Sequence[Turn]
    chosen: str | None
    rejected: str | None
    strength: int = 1
    scores: tuple[float, float] = (1.0, 0.0)
    ratings: tuple[Sequence[float], Sequence[float]] | None = None
    topic: str = ""
    truth: str | None = None


@dataclass(frozen=True)
class TextSource:
    """A published schema of jsonl files.

    name: in messages. checked: answers can be compared with a truth. attributes: names of ratings.
    """

    name: ClassVar[str]
    checked: ClassVar[bool] = False
    attributes: ClassVar[Sequence[str]] = ()

    @property
    def shown(self) -> bool:
        """Whether prompts and answers may stand in a report."""
        return True

    @property
    def files(self) -> Sequence[str]:
        """Patterns of files below data.root; .gz is understood."""
        return ()

    def parse(self, row: Mapping[str, Any]) -> Iterable[Any]:
        """What a line holds; raises Malformed or Skip where that is nothing."""
        return ()

    def gathered(self, found: Sequence[Any], skipped: Counter) -> Sequence[TextRow]:
        """All that was parsed -> rows; where lines belong together, they meet here."""
        return found

    def right(self, answer: str, truth: str) -> bool:
        """Whether an answer ends with the truth, of sources that can be checked."""
        return False


def asked(text: str) -> tuple[Turn, ...]:
    """A prompt of one turn."""
    return (("user", text),)


def better(scores: Sequence[float]) -> tuple[int, int]:
    """Places of the better and the worse of two."""
    return (0, 1) if scores[0] > scores[1] else (1, 0)
