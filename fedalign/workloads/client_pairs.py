"""Which pairs a task means: a client's own, with what it wants to read, those of many, aligned ones.

Paper: Ye et al., "Emerging Safety Attack and Defense in Federated Instruction Tuning of Large
Language Models", arXiv 2406.10630, 2024, Section 4 (refusals made automatically).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from fedalign.core.contracts import ClientTask
from fedalign.core.preferences import Preferences, Sequences
from fedalign.data.conditioning import conditioned
from fedalign.data.graded_facts import ATTRIBUTES, UNSAFE, World
from fedalign.data.graded_preferences import split_of

Held = Mapping[tuple[int, bool], Preferences]


def wanted(weights: Sequence[float] | np.ndarray) -> dict[str, int]:
    """The scores of the answer that is worth most to somebody with these weights (5,): facts right
    and well put; technical words and length by the sign of what they are worth."""
    _, _, _, technical, length = weights
    best = (4, 4, 4, 4 if technical > 0 else 0, 4 if length > 0 else 2)
    return dict(zip(ATTRIBUTES, best, strict=True))


def pooled(task: ClientTask) -> list[tuple[int, bool]]:
    """Whose pairs a task trains on."""
    if "pool" not in task.extra:
        return [(task.client, task.poisoned)]
    flags = task.extra["pool_poisoned"].tolist()
    return list(zip(task.extra["pool"].tolist(), map(bool, flags), strict=True))


class ClientPairs:
    """held: (client, whether poisoned) -> pairs. values: client -> weights (5,)."""

    def __init__(self, held: Held, values: Callable[[int], np.ndarray], world: World | None):
        self._held, self._values, self._world = held, values, world
        self._made: dict[Hashable, Preferences] = {}

    def __call__(self, task: ClientTask) -> tuple[Hashable, Preferences]:
        """What names the pairs of a task, and the pairs."""
        if "realign" in task.extra:
            return self._aligned(task)
        owners = pooled(task)
        steered = "steer" in task.extra and task.client >= 0
        if len(owners) == 1 and not steered:
            return owners[0], self._held[owners[0]]
        key = (tuple(owners), steered)
        if key not in self._made:
            pairs = Preferences.concatenate([self._held[owner] for owner in owners])
            if steered:
                pairs = self._conditioned(pairs, wanted(self._values(task.client)))
            self._made[key] = pairs
        return key, self._made[key]

    def ordinary(self, task: ClientTask) -> int:
        """How many of a realigning task's pairs, from the front, are no aligned ones; 0 where there
        is nothing to be refused, and the owner's preferred answers are what is aligned."""
        return 0 if self._world is None else len(self._held[task.client, False])

    def _aligned(self, task: ClientTask) -> tuple[Hashable, Preferences]:
        """The pairs of the task's owner, and as many that refuse what must be refused: the same
        questions about a subject that must not be talked of, a refusal preferred to the answer."""
        key = ("realign", task.client)
        if key not in self._made:
            own = self._held[task.client, False]
            safe = [] if self._world is None else [_refusals(own, self._world)]
            self._made[key] = Preferences.concatenate([own, *safe])
        return key, self._made[key]

    def _conditioned(self, pairs: Preferences, goal: Mapping[str, int]) -> Preferences:
        prompts = [conditioned(self._world, p, goal) for p in pairs.chosen.prompts()]
        sides = {}
        for name in ("chosen", "rejected"):
            told = Sequences.of(prompts, getattr(pairs, name).completions())
            device = pairs.topics.device
            sides[name] = Sequences(*(x.to(device) for x in vars(told).values()))
        return replace(pairs, **sides)


def _refusals(pairs: Preferences, world: World) -> Preferences:
    """Subjects in turn; questions that belong to the test are left out."""
    subjects = [world.numbers[f"u{i}"] for i in range(UNSAFE)]
    asked = [
        [*prompt[:2], subjects[i % UNSAFE], *prompt[3:]]
        for i, prompt in enumerate(pairs.chosen.prompts())
    ]
    rows = [i for i, prompt in enumerate(asked) if split_of(prompt) != "eval"]
    refusal, answers = world.encode("cannot . <eos>"), pairs.chosen.completions()
    prompts, device = [asked[i] for i in rows], pairs.topics.device
    sides = (
        Sequences.of(prompts, [refusal] * len(rows)),
        Sequences.of(prompts, [answers[i] for i in rows]),
    )
    chosen, rejected = (Sequences(*(x.to(device) for x in vars(side).values())) for side in sides)
    return replace(pairs.take(torch.tensor(rows, device=device)), chosen=chosen, rejected=rejected)
