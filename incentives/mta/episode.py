"""MTA episode: one pass over the tasks, a server or a rejection at a time.

Paper: following arXiv 2208.05120; pure, so that the environment,
the Q table and a test play the very same game.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.mta.assignment import Assignment
from incentives.mta.instance import REJECTED, MTAInstance


@dataclass(frozen=True)
class Turn:
    """Before a decision. position: tasks decided so far. remaining: (n,) cycles left.
    server: (m,) what was decided, -1 for rejected and for still to come."""

    position: int
    remaining: np.ndarray
    server: np.ndarray


@dataclass(frozen=True)
class Episode:
    """Tasks come as given, or by falling price. Actions 0 ... n-1 are servers, n rejects."""

    instance: MTAInstance
    order: Literal["given", "price"] = "given"

    def __post_init__(self):
        if self.order not in ("given", "price"):
            raise ConfigError(f"An MTA episode takes order=given or price, got '{self.order}'.")

    def start(self) -> Turn:
        return Turn(0, self.instance.capacity.copy(), np.full(self.instance.tasks, REJECTED))

    def over(self, turn: Turn) -> bool:
        return turn.position == self.instance.tasks

    def task(self, turn: Turn) -> int:
        """Whose turn it is, as the instance counts."""
        return int(self._tasks[turn.position])

    def left(self, turn: Turn) -> np.ndarray:
        """This task and those that follow."""
        return self._tasks[turn.position :]

    def mask(self, turn: Turn) -> np.ndarray:  # (n + 1,) bool
        """What may be chosen: useful servers with room, and always the rejection; where the
        public code's rewards are played, also an owner that cannot process its task."""
        instance, task = self.instance, self.task(turn)
        may = np.append(instance.useful[task] & (instance.work[task] <= turn.remaining), True)
        owner = instance.owner[task]
        may[owner] |= instance.legacy_reward and not instance.allowed[task, owner]
        return may

    def step(self, turn: Turn, action: int) -> tuple[Turn, float]:
        """The turn after `action`, and its reward in units of the largest value."""
        instance, task = self.instance, self.task(turn)
        if not (0 <= action <= instance.servers and self.mask(turn)[action]):
            may = np.flatnonzero(self.mask(turn)).tolist()
            raise ConfigError(
                f"Task {task} cannot go to server {action}: choose one of {may}, where "
                f"{instance.servers} rejects it."
            )
        remaining, server, reward = turn.remaining, turn.server, 0.0
        if action < instance.servers:
            reward = float(instance.reward[task, action] / instance.unit)
            if instance.allowed[task, action]:  # else the public code's owner, who only pays
                remaining, server = remaining.copy(), server.copy()
                remaining[action] -= instance.work[task, action]
                server[task] = action
        return Turn(turn.position + 1, remaining, server), reward

    def assignment(self, turn: Turn) -> Assignment:
        return Assignment(self.instance, turn.server)

    @cached_property
    def _tasks(self) -> np.ndarray:  # (m,) in the order of play
        given = np.arange(self.instance.tasks)
        return self.instance.by_price if self.order == "price" else given
