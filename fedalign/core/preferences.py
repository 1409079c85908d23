"""Preference data: prompts, two answers each, and which of them an annotator prefers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from fedalign.core.errors import DataError

Tokens = Sequence[int]
HONEST, INVERTED, UNIFORM = range(3)  # how a rater of a pair reports: 4 - score, any score


@dataclass(frozen=True)
class Sequences:
    """Prompts with their completions, right padded with 0.

    tokens: (N, T) int64. starts: (N,) tokens of the prompt. ends: (N,) tokens in all, the end
    mark of the completion included where it has one.
    """

    tokens: Tensor
    starts: Tensor
    ends: Tensor

    @staticmethod
    def of(prompts: Sequence[Tokens], completions: Sequence[Tokens]) -> Sequences:
        """Lists of token numbers -> padded rows; a prompt must hold at least one token."""
        for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            if not len(prompt) or not len(completion):
                empty = "prompt" if not len(prompt) else "completion"
                raise DataError(f"Row {i} has an empty {empty}: at least one token is needed.")
        rows = [[*p, *c] for p, c in zip(prompts, completions, strict=True)]
        tokens = np.zeros((len(rows), max(map(len, rows), default=1)), dtype=np.int64)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = row
        starts = torch.tensor([len(p) for p in prompts], dtype=torch.int64)
        return Sequences(
            torch.from_numpy(tokens), starts, torch.tensor([len(r) for r in rows]).long()
        )

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> Tensor:
        """(N,), tokens of each completion."""
        return self.ends - self.starts

    def take(self, rows: Tensor) -> Sequences:
        """The rows of these indices, in this order."""
        return Sequences(self.tokens[rows], self.starts[rows], self.ends[rows])

    def to(self, device: torch.device) -> Sequences:
        """The same on another device."""
        return Sequences(*(x.to(device) for x in vars(self).values()))

    def prompts(self) -> list[list[int]]:
        """The prompts as lists."""
        return [row[:s] for row, s in zip(self.tokens.tolist(), self.starts.tolist(), strict=True)]

    def completions(self) -> list[list[int]]:
        """The completions as lists."""
        bounds = zip(self.tokens.tolist(), self.starts.tolist(), self.ends.tolist(), strict=True)
        return [row[s:e] for row, s, e in bounds]

    def padded(self, width: int) -> Tensor:
        """(N, width) tokens; width is at least T."""
        return torch.nn.functional.pad(self.tokens, (0, width - self.tokens.shape[1]))

    @staticmethod
    def concatenate(parts: Sequence[Sequences]) -> Sequences:
        """Parts in order -> one."""
        width = max(part.tokens.shape[1] for part in parts)
        return Sequences(
            torch.cat([part.padded(width) for part in parts]),
            torch.cat([part.starts for part in parts]),
            torch.cat([part.ends for part in parts]),
        )


@dataclass(frozen=True)
class Preferences:
    """N labelled pairs.

    chosen, rejected: N sequences with equal prompts row by row. scores: (N, 2) float32, what the
    annotator thinks the chosen and the rejected answer are worth. strength: (N,) int64 in 1 .. 3.
    topics: (N,) int64, what each prompt is about. words: token number -> word.
    flipped: (N,) bool, rows whose order an attack or noise turned round; for metrics only.
    rated: (N,) int64, HONEST, INVERTED or UNIFORM, or None where all ratings are honest.
    """

    chosen: Sequences
    rejected: Sequences
    scores: Tensor
    strength: Tensor
    topics: Tensor
    flipped: Tensor
    words: Sequence[str] = ()
    rated: Tensor | None = None

    def __len__(self) -> int:
        return len(self.topics)

    def take(self, rows: Tensor) -> Preferences:
        """The pairs of these row indices, in this order."""
        cut = ("chosen", "rejected")
        return replace(
            self,
            **{name: getattr(self, name).take(rows) for name in cut},
            **{k: getattr(self, k)[rows] for k in ("scores", "strength", "topics", "flipped")},
            rated=None if self.rated is None else self.rated[rows],
        )

    def swap(self, rows: Tensor) -> Preferences:
        """Chosen and rejected change places in the rows where `rows` (N,) bool is true."""
        width = max(self.chosen.tokens.shape[1], self.rejected.tokens.shape[1])

        def mixed(first: Sequences, second: Sequences) -> Sequences:
            return Sequences(
                torch.where(rows[:, None], second.padded(width), first.padded(width)),
                torch.where(rows, second.starts, first.starts),
                torch.where(rows, second.ends, first.ends),
            )

        return replace(
            self,
            chosen=mixed(self.chosen, self.rejected),
            rejected=mixed(self.rejected, self.chosen),
            scores=torch.where(rows[:, None], self.scores.flip(1), self.scores),
            flipped=self.flipped ^ rows,
        )

    def honesty(self) -> Tensor:
        """(N,), `rated`, spelt out."""
        return torch.full_like(self.topics, HONEST) if self.rated is None else self.rated

    def number(self, word: str) -> int:
        """The token number of a word; DataError where the vocabulary lacks it."""
        if word not in self.words:
            raise DataError(f"The vocabulary of this data has no word '{word}'.")
        return list(self.words).index(word)

    @staticmethod
    def concatenate(parts: Sequence[Preferences]) -> Preferences:
        """Parts in order -> one; the vocabulary is the first one's."""
        names = ("scores", "strength", "topics", "flipped")
        return Preferences(
            chosen=Sequences.concatenate([part.chosen for part in parts]),
            rejected=Sequences.concatenate([part.rejected for part in parts]),
            **{name: torch.cat([getattr(part, name) for part in parts]) for name in names},
            words=parts[0].words,
            rated=torch.cat([part.honesty() for part in parts]),
        )


@dataclass(frozen=True)
class Triggered:
    """Held-out prompts of a trigger attack. prompts: with the trigger. target: the token numbers
    that the attacker wants to see in an answer, in this order."""

    prompts: Sequence[Tokens]
    target: Tokens

    def hit(self, completion: Tokens) -> bool:
        """Whether an answer holds the target."""
        size = len(self.target)
        wanted, found = list(self.target), list(completion)
        return any(found[i : i + size] == wanted for i in range(len(found) - size + 1))


@runtime_checkable
class PreferenceAttack(Protocol):
    """A data attack on preference pairs: `poison` and `triggered` get `Preferences`."""

    preferences: ClassVar[bool]

    def poison(self, dataset: Any, rng: np.random.Generator, member: int) -> Any: ...

    def triggered(self, dataset: Any) -> Any | None: ...


@runtime_checkable
class RatingAttack(Protocol):
    """A preference attack whose lies are in `Preferences.rated`: objectives that learn from ratings
    see them, others do not."""

    ratings: ClassVar[bool]
