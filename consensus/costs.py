"""Costs: what a round of agreement takes, by phase, and its energy.

Paper: none; our derivation (energy of a core, of a byte on the wire, of a hash).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import process_time

from consensus.work import DONE
from fedalign.core.agreement import Cost
from fedalign.core.errors import ConfigError


def standing() -> float:
    """A clock that stands still."""
    return 0.0


class Ledger:
    """Adds up; phases appear in the order in which they first cost something.

    clock: process time in seconds; where nobody asks for it, a clock that stands still is faster.
    """

    def __init__(self, clock: Callable[[], float] = process_time) -> None:
        self._clock = clock
        self._phases: dict[str, dict[str, float]] = {}
        self._open: list[str] = []  # phases under way, the innermost last
        self._since = 0.0
        self._signatures = self._hashes = 0  # of this process, when it was looked at last

    def sent(self, phase: str, size: int, model: bool = False) -> None:
        """A message of `size` bytes left a server."""
        self._add(phase, "messages", 1)
        self._add(phase, "model_bytes" if model else "bytes", size)

    def lasted(self, phase: str, seconds: float) -> None:
        """Simulated time went by."""
        self._add(phase, "latency_s", seconds)

    @contextmanager
    def working(self, phase: str) -> Iterator[None]:
        """Process time, signatures and hashes of a block count to `phase`; a block inside
        interrupts the outer one."""
        self._charge()
        self._open.append(phase)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def _charge(self) -> None:
        now, signatures, hashes = self._clock(), DONE.signatures, DONE.hashes
        if self._open:
            phase = self._open[-1]
            self._add(phase, "cpu_s", now - self._since)
            if hashes > self._hashes or signatures > self._signatures:
                self._add(phase, "signatures", signatures - self._signatures)
                self._add(phase, "hashes", hashes - self._hashes)
        self._since, self._signatures, self._hashes = now, signatures, hashes

    def costs(self) -> dict[str, Cost]:
        """phase -> Cost."""
        return {phase: Cost(**parts) for phase, parts in self._phases.items()}

    def _add(self, phase: str, name: str, value: float) -> None:
        parts = self._phases.setdefault(phase, {})
        parts[name] = parts.get(name, 0) + value


@dataclass(frozen=True)
class Energy:
    """joules = core_watts · cpu_s + joules_per_byte · bytes + joules_per_hash · hashes.

    core_watts: of one busy core, > 0. joules_per_byte: 5e-8 wired, 1e-6 wireless. hashes_per_s:
    of one core, so that a hash costs core_watts / hashes_per_s.
    """

    core_watts: float = 8.0
    joules_per_byte: float = 5e-8
    hashes_per_s: float = 5.9e5

    def __post_init__(self) -> None:
        if self.core_watts <= 0 or self.joules_per_byte < 0 or self.hashes_per_s <= 0:
            raise ConfigError(
                "Energy needs core_watts > 0, joules_per_byte >= 0 and hashes_per_s > 0, got "
                f"{self.core_watts}, {self.joules_per_byte} and {self.hashes_per_s}."
            )

    def joules(self, cpu_s: float, bytes_: float, hashes: float = 0.0) -> float:
        """Of so much work."""
        work_s = cpu_s + hashes / self.hashes_per_s
        return self.core_watts * work_s + self.joules_per_byte * bytes_
