"""Clock: simulated seconds and joules of devices and links, exact while training is real.

Source: the usual models of mobile edge learning, computation H n c / f seconds and
kappa H n c f^2 joules, upload S / (b log2(1 + SNR)) seconds at transmit power.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, log2
from typing import Protocol

from fedalign.core.contracts import Work
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds

Loads = Mapping[int, tuple[Work, int]]


@dataclass(frozen=True)
class Span:
    """What a round, or a part of it, took. ready_s: member -> seconds until its row was there."""

    seconds: float = 0.0
    joules: float = 0.0
    ready_s: Mapping[int, float] | None = None


class Clock(Protocol):
    """How long members take. loads: member -> its work and samples; bits: of one payload."""

    def slow(self, loads: Loads, bits: float, seeds: Seeds) -> set[int]:
        """Members that miss the deadline by their own speed."""

    def edge_round(
        self, loads: Loads, bits: float, fates: Mapping[int, str], waits: bool, seeds: Seeds
    ) -> Span: ...

    def meeting(
        self, edges: Mapping[int, float], bits: float, fates: Mapping[int, str], waits: bool
    ) -> Span: ...


@dataclass(frozen=True)
class Untimed(Clock):
    """Nothing takes time."""

    def slow(self, loads, bits, seeds) -> set[int]:
        return set()

    def edge_round(self, loads, bits, fates, waits, seeds) -> Span:
        return Span()

    def meeting(self, edges, bits, fates, waits) -> Span:
        return Span()


@dataclass(frozen=True)
class Wireless(Clock):
    """Devices on wireless links below edge servers on wires.

    speed_ghz, snr_db: (low, high), drawn per device, uniform. cycles_per_sample, bandwidth_mhz
    (one device's), transmit_w, kappa (switched capacitance): of all devices. local_batch: samples
    of a local step, where the study counts steps. deadline_device_s: how long an edge waits for
    its devices; whoever is slower misses every round; None: 1.2 times its slowest device.
    deadline_edge_s: the same for edge servers in a global round. outage_s: by how much an outage
    delays a row, None: four deadlines. patience_s: how long a rule that waits for everybody waits
    for one that never comes, None: ten deadlines. edge_mbps: an edge server's upload. consensus_s:
    seconds from the last edge model to the sealed block.
    """

    speed_ghz: Sequence[float] = (0.5, 2.0)
    cycles_per_sample: float = 1e7
    bandwidth_mhz: float = 1.0
    snr_db: Sequence[float] = (5.0, 25.0)
    transmit_w: float = 0.2
    kappa: float = 1e-28
    local_batch: int = 32
    deadline_device_s: float | None = None
    deadline_edge_s: float | None = None
    outage_s: float | None = None
    patience_s: float | None = None
    edge_mbps: float = 100.0
    consensus_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("speed_ghz", "snr_db"):
            pair = getattr(self, name)
            if len(pair) != 2 or not pair[0] <= pair[1]:
                raise ConfigError(f"clock.{name} is (low, high) with low <= high, got {pair}.")
        for name in ("cycles_per_sample", "bandwidth_mhz", "transmit_w", "kappa", "local_batch",
                     "deadline_device_s", "deadline_edge_s", "outage_s", "patience_s", "edge_mbps"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"clock.{name} must be positive, got {value}.")
        if self.speed_ghz[0] <= 0 or self.consensus_s < 0:
            raise ConfigError(
                f"clock needs speeds above 0 and consensus_s of 0 or more, got {self.speed_ghz} "
                f"and {self.consensus_s}."
            )

    def own_s(
        self, member: int, load: tuple[Work, int], bits: float, seeds: Seeds
    ) -> tuple[float, float]:
        """Seconds and joules a device needs for one edge round, undisturbed."""
        work, samples = load
        seen = samples * work.epochs if work.steps is None else work.steps * self.local_batch
        rng = seeds.at("device", member=member)
        hertz = 1e9 * rng.uniform(*self.speed_ghz)
        snr = 10 ** (rng.uniform(*self.snr_db) / 10)
        cycles = seen * self.cycles_per_sample
        upload_s = bits / (1e6 * self.bandwidth_mhz * log2(1 + snr))
        joules = self.kappa * cycles * hertz**2 + self.transmit_w * upload_s
        return cycles / hertz + upload_s, joules

    def slow(self, loads: Loads, bits: float, seeds: Seeds) -> set[int]:
        limit = self.deadline_device_s
        if limit is None:
            return set()
        return {u for u, load in loads.items() if self.own_s(u, load, bits, seeds)[0] > limit}

    def edge_round(
        self,
        loads: Loads,
        bits: float,
        fates: Mapping[int, str],
        waits: bool,
        seeds: Seeds,
    ) -> Span:
        """fates: member -> "late" (delayed by an outage), "slow" (beyond the deadline by itself)
        or "gone"; the others are on time."""
        own = {u: self.own_s(u, load, bits, seeds) for u, load in loads.items()}
        seconds = {u: s for u, (s, _) in own.items()}
        joules = sum(j for u, (_, j) in own.items() if fates.get(u) != "gone")
        limit = self.deadline_device_s or 1.2 * max(seconds.values(), default=0.0)
        return self._closed(seconds, fates, waits, limit, joules)

    def meeting(
        self, edges: Mapping[int, float], bits: float, fates: Mapping[int, str], waits: bool
    ) -> Span:
        """edges: edge -> seconds its K edge rounds took. Upload, then consensus."""
        upload_s = bits / (1e6 * self.edge_mbps)
        seconds = {e: s + upload_s for e, s in edges.items()}
        limit = self.deadline_edge_s or 1.2 * max(seconds.values(), default=0.0)
        span = self._closed(seconds, fates, waits, limit, 0.0)
        return Span(span.seconds + self.consensus_s, 0.0, span.ready_s)

    def _closed(
        self,
        seconds: Mapping[int, float],
        fates: Mapping[int, str],
        waits: bool,
        limit: float,
        joules: float,
    ) -> Span:
        """When the group's round is closed: with the last row, at the deadline where one is
        missing, or, where the rule waits, when the delayed ones are there or patience ends."""
        outage_s = self.outage_s or 4 * limit
        delay = {None: 0.0, "slow": 0.0, "late": outage_s, "gone": inf}
        ready = {u: s + delay[fates.get(u)] for u, s in seconds.items()}
        last = max(ready.values(), default=0.0)
        closes = (self.patience_s or 10 * limit) if waits else limit
        return Span(min(last, closes) if fates or waits else last, joules, ready)
