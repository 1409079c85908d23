"""Scoring: what a reward model makes of answers, one at a time or two against each other.

Papers: Ouyang et al., "Training language models to follow instructions with human feedback",
NeurIPS 2022, Section 3.5 (a score per answer); Wu et al., "Towards Federated RLHF with Aggregated
Client Preference for LLMs", ICLR 2025 (one answer against another).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from fedalign.core.preferences import Sequences
from fedalign.models.scored import Scored

RIVALS = 8  # answers that one is compared with at most, an even number
Tokens = Sequence[Sequence[int]]
Votes = Callable[[Sequences, Sequences], Tensor]
"""(one, other) -> (N,), models for the first of two answers minus models for the second."""


@dataclass(frozen=True)
class Scoring:
    """module: a reward model. jointly: it reads two answers at once. weights: (A,), of its outputs in
    one reward. chunk: answers that go through it together, of similar lengths."""

    module: Scored
    jointly: bool
    weights: Sequence[float]
    chunk: int

    def scores(self, *sides: Sequences) -> Tensor:
        """(sides, N, A), the model's outputs for so many answers each, with gradient."""
        both = Sequences.concatenate(sides)
        order, found = both.ends.argsort(stable=True), []
        for rows in order.split(self.chunk):
            part = both.take(rows)
            tokens = part.tokens[:, : int(part.ends.max())]
            found.append(self.module(tokens, part.starts, part.ends))
        return torch.cat(found)[order.argsort()].view(len(sides), len(sides[0]), -1)

    def worth(self, outputs: Tensor) -> Tensor:
        """(..., A) -> (...), one reward."""
        return outputs @ torch.tensor(self.weights).to(outputs)

    def between(self, first: Sequences, second: Sequences) -> Tensor:
        """(N,), log-odds that the first answer is better, by a model that reads both, with
        gradient. The second follows the first's end mark."""
        starts, middles = first.starts, first.ends
        longer = [p + a for p, a in zip(first.prompts(), first.completions(), strict=True)]
        both = Sequences.of(longer, second.completions()).to(starts.device)
        order, found = both.ends.argsort(stable=True), []
        for rows in order.split(self.chunk):
            ends = both.ends[rows]
            tokens = both.tokens[rows, : int(ends.max())]
            found.append(self.module.between(tokens, starts[rows], middles[rows], ends))
        return torch.cat(found)[order.argsort()][:, 0]

    def gap(self, one: Sequences, other: Sequences) -> Tensor:
        """(N,), how much better the first of two answers each is; turned round, its negative."""
        if self.jointly:
            return (self.between(one, other) - self.between(other, one)) / 2
        outputs = self.scores(one, other)
        return self.worth(outputs[0]) - self.worth(outputs[1])


def _games(group: Sequence[int]) -> list[tuple[int, int]]:
    """Who of a group meets whom."""
    k = len(group)
    if k <= RIVALS + 1:
        return list(combinations(group, 2))
    steps = range(1, RIVALS // 2 + 1)
    return [(one, group[(i + step) % k]) for i, one in enumerate(group) for step in steps]


def agreement(gap: Tensor, truth: Tensor) -> float:
    """Share of equal signs; a tie on either side counts one half."""
    right = (gap * truth > 0).double() + 0.5 * ((gap == 0) | (truth == 0))
    return float(right.mean())


def tournament(
    votes: Votes, voters: int, device: torch.device, prompts: Tokens, answers: Tokens
) -> np.ndarray:
    """(N,) in (-1, 1): votes for an answer minus votes against it over its rivals, divided by the
    voters and by the rivals plus itself; 0 for an answer that is alone. Rivals are all others to the
    same prompt, or RIVALS of them where there are more: the next and the last ones, in a circle."""
    rivals: dict[tuple[int, ...], list[int]] = {}
    for i, prompt in enumerate(prompts):
        rivals.setdefault(tuple(prompt), []).append(i)
    games = [game for group in rivals.values() for game in _games(group)]
    worth = np.zeros(len(prompts))
    if not games:
        return worth
    sides = (
        Sequences.of([prompts[i] for i in side], [answers[i] for i in side]).to(device)
        for side in zip(*games, strict=True)
    )
    found = votes(*sides).cpu().numpy() / voters
    for (i, j), vote in zip(games, found.tolist(), strict=True):
        share = vote / min(len(rivals[tuple(prompts[i])]), RIVALS + 1)
        worth[i] += share
        worth[j] -= share
    return worth
