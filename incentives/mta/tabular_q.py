"""Tabular Q: a table of task by server, learned again for every instance.

Paper: following arXiv 2208.05120, the paper's learner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.mta.assignment import Assignment
from incentives.mta.episode import Episode
from incentives.mta.instance import MTAInstance


@dataclass(frozen=True)
class TabularQ:
    """State: how many tasks are decided; action: server or rejection; the best episode counts.

    episodes: >= 1. learning_rate in (0, 1], discount in [0, 1), greedy: probability of the best
    known action, in [0, 1]. Defaults are what the public code effectively runs, which passes its
    parameters in another order than it means to (it names .01, .9 and .9).
    """

    episodes: int = 500
    learning_rate: float = 0.9
    discount: float = 0.01
    greedy: float = 0.9

    def __post_init__(self):
        if self.episodes < 1:
            raise ConfigError(f"Tabular Q: episodes must be 1 or more, got {self.episodes}.")
        if not 0 < self.learning_rate <= 1:
            raise ConfigError(
                f"Tabular Q: learning_rate must lie in (0, 1], got {self.learning_rate}."
            )
        if not 0 <= self.discount < 1:
            raise ConfigError(f"Tabular Q: discount must lie in [0, 1), got {self.discount}.")
        if not 0 <= self.greedy <= 1:
            raise ConfigError(f"Tabular Q: greedy must lie in [0, 1], got {self.greedy}.")

    def __call__(self, instance: MTAInstance, rng: np.random.Generator) -> Assignment:
        episode = Episode(instance)
        table = np.zeros((instance.tasks + 1, instance.servers + 1))
        best, most = episode.start(), -np.inf
        for _ in range(self.episodes):
            turn, earned = episode.start(), 0.0
            may = np.flatnonzero(episode.mask(turn))
            while not episode.over(turn):
                row = table[turn.position]
                exploit = rng.random() < self.greedy
                action = int(may[row[may].argmax()] if exploit else rng.choice(may))
                turn, reward = episode.step(turn, action)
                future = 0.0
                if not episode.over(turn):
                    may = np.flatnonzero(episode.mask(turn))
                    future = table[turn.position][may].max()
                row[action] += self.learning_rate * (reward + self.discount * future - row[action])
                earned += reward
            if earned > most:
                best, most = turn, earned
        return episode.assignment(best)
