"""Local search: move one task, or let two tasks change places, while that pays.

Paper: none; our choice (a 1-swap search); neighbourhoods
as usual for the generalised assignment problem.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.mta.assignment import Assignment
from incentives.mta.heuristics.price_density import PriceDensity
from incentives.mta.instance import REJECTED, MTAInstance

NEVER = -np.inf
LEAST_GAIN = 1e-9  # relative to the instance's unit: below it a move is rounding


@dataclass(frozen=True)
class LocalSearch:
    """Steepest ascent from the price-density assignment over shifts of one task (to a server, or
    out) and exchanges of two; a rejected task may take the place of a served one.

    most_moves: moves after which it stops in any case, >= 1. O(m^2 + m n) memory and time a move.
    """

    most_moves: int = 10_000

    def __post_init__(self):
        if self.most_moves < 1:
            raise ConfigError(f"Local search: most_moves must be 1 or more, got {self.most_moves}.")

    def __call__(self, instance: MTAInstance, start: Assignment | None = None) -> Assignment:
        start = start or PriceDensity()(instance)
        nowhere = instance.servers  # one more server, where rejected tasks weigh and earn nothing
        value = np.append(
            np.where(instance.useful, instance.value, NEVER), np.zeros((instance.tasks, 1)), axis=1
        )
        work = np.append(instance.work, np.zeros((instance.tasks, 1)), axis=1)
        place = np.where(start.server == REJECTED, nowhere, start.server)
        for _ in range(self.most_moves):
            remaining = np.append(instance.capacity - _assignment(instance, place).load, 0.0)
            shift, shift_gain = _best_shift(value, work, place, remaining)
            exchange, exchange_gain = _best_exchange(value, work, place, remaining)
            if max(shift_gain, exchange_gain) <= LEAST_GAIN * instance.unit:
                break
            if shift_gain >= exchange_gain:
                place[shift[0]] = shift[1]
            else:
                place[list(exchange)] = place[list(exchange[::-1])]
        return _assignment(instance, place)


def _assignment(instance: MTAInstance, place: np.ndarray) -> Assignment:
    return Assignment(instance, np.where(place == instance.servers, REJECTED, place))


def _best_shift(value, work, place, remaining) -> tuple[tuple[int, int], float]:
    """(task, server) and what moving it there gains."""
    tasks = np.arange(len(place))
    gain = np.where(work <= remaining, value - value[tasks, place][:, None], NEVER)
    gain[tasks, place] = NEVER
    return _best(gain)


def _best_exchange(value, work, place, remaining) -> tuple[tuple[int, int], float]:
    """Two tasks on different servers and what exchanging them gains."""
    tasks = np.arange(len(place))
    now, there = value[tasks, place], value[:, place]  # there[j, k]: j at the server of k
    room = remaining[place] + work[tasks, place]  # at the server of k, once k has left
    fits = work[:, place] <= room
    may = fits & fits.T & (place[:, None] != place)
    return _best(np.where(may, there + there.T - now[:, None] - now, NEVER))


def _best(gain: np.ndarray) -> tuple[tuple[int, int], float]:
    first = np.unravel_index(gain.argmax(), gain.shape)
    return first, float(gain[first])
