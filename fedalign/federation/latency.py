"""Latency: how long rounds take, and how many edge rounds K a global round should have.

Paper: Wang et al., arXiv 2308.01296 (K under a convergence bound, consensus inside the waiting
window); the closed form for the time to a target is ours.

Units: seconds, bits, hertz. One global round takes K a + b, or, where the consensus of a round
overlaps the edge rounds of the next, max(K a, consensus) + upload.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, sqrt

import numpy as np
from scipy.optimize import nnls

from fedalign.core.errors import ConfigError


def first_timeout_s(low_s: float, high_s: float, servers: int) -> float:
    """Mean time until the first of N election timers, uniform on [low, high], runs out."""
    return low_s + (high_s - low_s) / (servers + 1)


def near_tie(delay_s: float, low_s: float, high_s: float, servers: int) -> float:
    """Chance that a second timer runs out within one message delay of another: a split vote."""
    return 1 - (1 - min(delay_s / (high_s - low_s), 1.0)) ** servers


def majority_s(round_trip_s: float, servers: int) -> float:
    """Mean time until q = floor(N / 2) of N - 1 followers have answered, round trips exponential:
    mu times the sum of 1 / (N - 1 - s) over s = 0 .. q - 1."""
    return round_trip_s * sum(1 / (servers - 1 - s) for s in range(servers // 2))


MOST = 10_000  # edge rounds, where nothing limits them


@dataclass(frozen=True)
class RoundTime:
    """edge_s: a > 0, one edge round of the slowest edge. upload_s, consensus_s: >= 0, from the
    edges to the leader, and from there to the sealed block. pipelined: consensus runs beside the
    next round's edge rounds."""

    edge_s: float
    upload_s: float = 0.0
    consensus_s: float = 0.0
    pipelined: bool = False

    def __post_init__(self) -> None:
        if not self.edge_s > 0 or self.upload_s < 0 or self.consensus_s < 0:
            raise ConfigError(
                f"A round needs edge_s > 0, upload_s and consensus_s >= 0, got {self.edge_s}, "
                f"{self.upload_s} and {self.consensus_s}."
            )

    @property
    def extra_s(self) -> float:
        """b: what a global round takes beside its edge rounds."""
        return self.upload_s + (0.0 if self.pipelined else self.consensus_s)

    def __call__(self, edge_rounds: int) -> float:
        """L(K)."""
        if edge_rounds < 1:
            raise ConfigError(f"A global round has 1 edge round or more, got K={edge_rounds}.")
        training_s = edge_rounds * self.edge_s
        if self.pipelined:
            return max(training_s, self.consensus_s) + self.upload_s
        return training_s + self.extra_s

    @property
    def least(self) -> int:
        """The fewest edge rounds whose time covers the consensus."""
        return max(1, ceil(self.consensus_s / self.edge_s - 1e-12))


@dataclass(frozen=True)
class Progress:
    """Omega(K, T) = speed / (K T) + drift K + floor, all >= 0: a convergence bound, or what pilot
    runs measured of it."""

    speed: float
    drift: float
    floor: float = 0.0

    @staticmethod
    def fitted(
        edge_rounds: Sequence[int], rounds: Sequence[int], omega: Sequence[float]
    ) -> Progress:
        """Non-negative least squares over measured (K, T, Omega), at least three of them."""
        k, t = np.asarray(edge_rounds, float), np.asarray(rounds, float)
        if len(k) < 3:
            raise ConfigError(f"Three unknowns need three measurements, got {len(k)}.")
        design = np.stack([1 / (k * t), k, np.ones_like(k)], axis=1)
        scale = design.max(axis=0)
        found, _ = nnls(design / scale, np.asarray(omega, float))
        return Progress(*(found / scale).tolist())

    def __call__(self, edge_rounds: float, rounds: float) -> float:
        return self.speed / (edge_rounds * rounds) + self.drift * edge_rounds + self.floor

    def rounds(self, edge_rounds: int, target: float) -> float:
        """T at which Omega falls to `target`; inf where it never does."""
        left = target - self.floor - self.drift * edge_rounds
        return self.speed / (edge_rounds * left) if left > 0 else inf

    def most(self, target: float) -> int:
        """The largest K that reaches `target` at all; 0 where none does."""
        room = target - self.floor
        if room <= 0:
            return 0
        return max(ceil(room / self.drift - 1e-12) - 1, 0) if self.drift else MOST


@dataclass(frozen=True)
class Choice:
    """A K, the real-valued one before rounding (None where a constraint decides), and seconds."""

    edge_rounds: int
    exact: float | None
    seconds: float


def fastest(time: RoundTime, progress: Progress, target: float, most: int = MOST) -> Choice:
    """The K that reaches `target` soonest: with e = target - floor and b = `extra_s`,
    K* = (b / a) (sqrt(1 + a e / (b c)) - 1), the better of its two neighbours, between the K that
    consensus allows (pipelined) and the last one that converges, `most` at most. ConfigError where
    there is none.
    """
    low, high = (time.least if time.pipelined else 1), min(progress.most(target), most)
    if low > high:
        raise ConfigError(
            f"No number of edge rounds reaches {target:g}: convergence allows {high} at most, "
            f"consensus asks for {low}; the bound cannot fall below "
            f"{progress.floor + progress.drift * low:g}. Raise the target or speed consensus up."
        )
    room, a, b, c = target - progress.floor, time.edge_s, time.extra_s, progress.drift
    if c == 0:  # no drift: a longer round is always worth its overhead, if there is any
        exact = inf if b > 0 else 1.0
    elif b == 0:
        exact = 0.0
    else:
        exact = b / a * (sqrt(1 + a * room / (b * c)) - 1)
    near = {low} if exact <= low else {min(max(k, low), high) for k in _around(exact, high)}
    best = min(sorted(near), key=lambda k: _total(time, progress, target, k))
    return Choice(best, exact, _total(time, progress, target, best))


def searched(time: RoundTime, progress: Progress, target: float, most: int = MOST) -> Choice:
    """The same by trying every K."""
    low = time.least if time.pipelined else 1
    tried = range(low, min(progress.most(target), most) + 1)
    if not tried:
        raise ConfigError(f"No number of edge rounds up to {most} reaches {target:g}.")
    best = min(tried, key=lambda k: _total(time, progress, target, k))
    return Choice(best, None, _total(time, progress, target, best))


def least_feasible(time: RoundTime, progress: Progress, target: float, rounds: int) -> Choice:
    """For a fixed number T of global rounds, the K of the shortest run: the smallest that meets
    the bound after T rounds and whose edge rounds cover the consensus."""
    limit = progress.most(target)
    # speed / (K T) + drift K <= e holds between the roots of a parabola in K
    for k in range(time.least, limit + 1):
        if progress(k, rounds) <= target + 1e-15:
            return Choice(k, None, rounds * time(k))
    best = max(time.least, round(sqrt(progress.speed / (rounds * progress.drift)))) if (
        progress.drift
    ) else max(time.least, limit)  # fmt: skip
    raise ConfigError(
        f"No K meets {target:g} in {rounds} global rounds with consensus of "
        f"{time.consensus_s:g} s: the smallest reachable bound is {progress(best, rounds):g} at "
        f"K={best}. Raise the target or the rounds."
    )


def _around(exact: float, high: int) -> tuple[int, int]:
    return (high, high) if exact >= high else (floor(exact), ceil(exact))


def _total(time: RoundTime, progress: Progress, target: float, edge_rounds: int) -> float:
    return progress.rounds(edge_rounds, target) * time(edge_rounds)
