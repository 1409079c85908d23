"""Which pairs a task means: a client's own, those of many, or its own with what it wants to read."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fedalign.core.contracts import ClientTask
from fedalign.core.preferences import Preferences, Sequences
from fedalign.data.conditioning import conditioned
from fedalign.data.graded_facts import ATTRIBUTES, World

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

    def _conditioned(self, pairs: Preferences, goal: Mapping[str, int]) -> Preferences:
        prompts = [conditioned(self._world, p, goal) for p in pairs.chosen.prompts()]
        sides = {}
        for name in ("chosen", "rejected"):
            told = Sequences.of(prompts, getattr(pairs, name).completions())
            device = pairs.topics.device
            sides[name] = Sequences(*(x.to(device) for x in vars(told).values()))
        return replace(pairs, **sides)
