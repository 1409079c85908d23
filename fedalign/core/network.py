"""Network: a sorting network, cut down to the wires that somebody wants to read.

Sorting n values by fixed compare-exchanges needs no branches, so a whole chunk of columns is
sorted at once by elementwise minima and maxima of rows: no transpose, no indices. What is not
read is not computed: comparators whose two results are both unread, or both only enter the same
sum, fall away, walking backwards.

Paper: Batcher, "Sorting Networks and Their Applications", AFIPS 1968 (odd-even merge).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
from torch import Tensor


class Role(IntEnum):
    """What becomes of a sorted position: unread, one summand among others, or read by itself."""

    UNREAD = 0
    SUMMED = 1
    READ = 2


@dataclass(frozen=True)
class _Rows:
    """Rows start, start+1 .. of one buffer: `count` runs of `length`, `step` rows apart."""

    buffer: int
    start: int
    count: int
    length: int
    step: int

    def view(self, buffers: np.ndarray) -> np.ndarray:
        """(2, n, width) -> (count, length, width), sharing memory."""
        across, down, along = buffers.strides
        return np.ndarray(
            (self.count, self.length, buffers.shape[2]),
            buffers.dtype,
            buffers,
            self.buffer * across + self.start * down,
            (self.step * down, down, along),
        )


@dataclass(frozen=True)
class _Step:
    """One elementwise operation: out = maximum (or minimum) of low and high."""

    maximum: bool
    low: _Rows
    high: _Rows
    out: _Rows


@dataclass(frozen=True)
class Network:
    """Compare-exchanges in order, and the buffer (0 or 1) in which each wire ends.

    A minimum is written to the other buffer, its maximum then in place: nothing is copied.
    """

    steps: tuple[_Step, ...]
    homes: tuple[int, ...]

    @staticmethod
    def of(roles: Iterable[Role]) -> Network:
        """The network for wires with these roles, smallest value first; planned once per tuple."""
        return _planned(tuple(roles))

    def bind(self, width: int, like: Tensor) -> Sorter:
        """A workspace of 2 n `width` values like `like` (on the CPU, float32 or float64)."""
        return Sorter(self, like.new_zeros(2, len(self.homes), width))


class Sorter:
    """A network on its workspace. The wires are overwritten by the next call."""

    def __init__(self, network: Network, buffers: Tensor):
        arrays = buffers.numpy()  # NumPy's calls cost half of what torch's do
        views: dict[_Rows, np.ndarray] = {}

        def view(rows: _Rows) -> np.ndarray:
            if rows not in views:
                views[rows] = rows.view(arrays)
            return views[rows]

        self._inbox = buffers[0]
        self._program = [
            (np.maximum if s.maximum else np.minimum, view(s.low), view(s.high), view(s.out))
            for s in network.steps
        ]
        self._wires = [buffers[home, i] for i, home in enumerate(network.homes)]

    def __call__(self, chunk: Tensor) -> list[Tensor]:
        """(n, w) with w <= width -> n rows of `width`; those of READ wires are the sorted values,
        SUMMED ones are in any order, the rest, and columns from w on, mean nothing."""
        self._inbox[:, : chunk.shape[1]].copy_(chunk)
        for operation, low, high, out in self._program:
            operation(low, high, out=out)
        return self._wires


def comparators(roles: Iterable[Role]) -> int:
    """How many compare-exchanges (whole or half) are left for these roles."""
    return sum(len(kept) for _, kept in _pruned(tuple(roles)))


def _layers(n: int) -> Iterator[tuple[int, list[int]]]:
    """Batcher's network: (k, lows) means compare-exchange (low, low + k) for all lows at once."""
    p = 1
    while p < n:
        k = p
        while k >= 1:
            yield (
                k,
                [
                    i + j
                    for j in range(k % p, n - k, 2 * k)
                    for i in range(min(k, n - j - k))
                    if (i + j) // (2 * p) == (i + j + k) // (2 * p)
                ],
            )
            k //= 2
        p *= 2


def _pruned(roles: tuple[Role, ...]) -> list[tuple[int, list[tuple[int, bool, bool]]]]:
    """Layers of (low, minimum wanted, maximum wanted), from the last back to the first."""
    role, kept_layers = list(roles), []
    for k, lows in reversed(list(_layers(len(roles)))):
        kept = []
        for low in lows:
            a, b = role[low], role[low + k]
            if a == b != Role.READ:
                continue  # both unread, or exchanging two summands of one sum: no effect
            kept.append((low, a != Role.UNREAD, b != Role.UNREAD))
            role[low] = role[low + k] = Role.READ
        if kept:
            kept_layers.append((k, kept))
    return kept_layers[::-1]


@lru_cache(maxsize=256)
def _planned(roles: tuple[Role, ...]) -> Network:
    home, steps = [0] * len(roles), []
    for k, kept in _pruned(roles):
        alike: dict[tuple[bool, bool, int, int], list[int]] = {}
        for low, minimum, maximum in kept:
            alike.setdefault((minimum, maximum, home[low], home[low + k]), []).append(low)
        for (minimum, maximum, at_low, at_high), lows in alike.items():
            both = minimum and maximum
            for start, count, length, step in _progressions(lows, k):
                low = _Rows(at_low, start, count, length, step)
                high = _Rows(at_high, start + k, count, length, step)
                if minimum:
                    other = _Rows(1 - at_low if both else at_low, start, count, length, step)
                    steps.append(_Step(False, low, high, other))
                if maximum:
                    steps.append(_Step(True, low, high, high))
            for low in lows if both else ():
                home[low] = 1 - home[low]
    return Network(tuple(steps), tuple(home))


def _progressions(lows: list[int], longest: int) -> Iterator[tuple[int, int, int, int]]:
    """Ascending lows -> (start, count, length, step): `count` equal runs, `step` apart."""
    runs: list[list[int]] = []
    for low in lows:
        if runs and sum(runs[-1]) == low and runs[-1][1] < longest:
            runs[-1][1] += 1
        else:
            runs.append([low, 1])
    while runs:
        start, length = runs[0]
        step = runs[1][0] - start if len(runs) > 1 else 1
        count = 1
        while count < len(runs) and runs[count] == [start + count * step, length]:
            count += 1
        yield start, count, length, step
        del runs[:count]
