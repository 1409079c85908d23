"""Links: how long a message travels, and what may happen to it on the way.

Paper: none; our derivation (the usual latency models: constant, lognormal, Pareto).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fedalign.core.errors import ConfigError


def _refuse(wrong: bool, name: str, got: float, needed: str) -> None:
    if wrong:
        raise ConfigError(f"{name} of a link must be {needed}, got {got}.")


class Latency(Protocol):
    """A distribution of one-way delays, in whole microseconds."""

    def draw(self, rng: np.random.Generator) -> int:
        """One delay."""


@dataclass(frozen=True)
class Constant:
    """Always the same. delay_us: >= 0."""

    delay_us: int = 1000

    def __post_init__(self):
        _refuse(self.delay_us < 0, "delay_us", self.delay_us, "at least 0")

    def draw(self, rng: np.random.Generator) -> int:
        return self.delay_us


@dataclass(frozen=True)
class LogNormal:
    """Most messages near the median, a few much later. median_us > 0, sigma (of the log) >= 0."""

    median_us: int = 1000
    sigma: float = 0.5

    def __post_init__(self):
        _refuse(self.median_us <= 0, "median_us", self.median_us, "above 0")
        _refuse(self.sigma < 0, "sigma", self.sigma, "at least 0")

    def draw(self, rng: np.random.Generator) -> int:
        return int(self.median_us * rng.lognormal(0.0, self.sigma))


@dataclass(frozen=True)
class Pareto:
    """A heavy tail. minimum_us > 0; shape > 0, the smaller the heavier; cut at maximum_us."""

    minimum_us: int = 500
    shape: float = 2.0
    maximum_us: int = 10_000_000

    def __post_init__(self):
        _refuse(self.minimum_us <= 0, "minimum_us", self.minimum_us, "above 0")
        _refuse(self.shape <= 0, "shape", self.shape, "above 0")
        _refuse(self.maximum_us < self.minimum_us, "maximum_us", self.maximum_us, "minimum_us")

    def draw(self, rng: np.random.Generator) -> int:
        return min(self.maximum_us, int(self.minimum_us * (1.0 + rng.pareto(self.shape))))


@dataclass(frozen=True)
class Link:
    """One direction between two servers.

    latency: delays. loss, duplicate: chance per message, in [0, 1]. reorder: delays are
    independent, so a later message may overtake; otherwise first in, first out.
    bytes_per_s: bandwidth, messages queue for it; 0 means unlimited.
    """

    latency: Latency = Constant()
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: bool = True
    bytes_per_s: int = 0

    def __post_init__(self):
        _refuse(not 0 <= self.loss <= 1, "loss", self.loss, "in [0, 1]")
        _refuse(not 0 <= self.duplicate <= 1, "duplicate", self.duplicate, "in [0, 1]")
        _refuse(self.bytes_per_s < 0, "bytes_per_s", self.bytes_per_s, "at least 0")
