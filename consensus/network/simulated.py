"""SimulatedNetwork: servers, links and faults as discrete events; one seed, one trace.

Events wait in a heap of (time, sequence); nothing else orders them, so a run depends on neither
clocks, threads nor hash seeds. What happened enters the trace's SHA-256.

Paper: none; our derivation (deterministic simulation in the manner of FoundationDB: Zhou et al.,
"FoundationDB", SIGMOD 2021, Section 4).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np

from consensus.network.links import Link

NS_PER_US = 1000


class Delivery(NamedTuple):
    """A message of `size` bytes arrives."""

    sender: int
    to: int
    payload: Any
    size: int


class Timer(NamedTuple):
    """Something that a server, or the test, wanted to be told at this time."""

    owner: int
    what: Any


class Counters:
    """Messages and bytes, by what became of them."""

    __slots__ = ("blocked", "bytes", "delivered", "duplicated", "lost", "sent")

    def __init__(self) -> None:
        self.sent = self.bytes = self.delivered = self.lost = self.duplicated = self.blocked = 0


class Trace:
    """SHA-256 over all that happened."""

    def __init__(self) -> None:
        self._hash = sha256()
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        """Append one happening; callers make parts self-delimiting."""
        self._parts.append(part)
        if len(self._parts) > 1000:
            self._flush()

    def hexdigest(self) -> str:
        """The hash so far."""
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        self._hash.update(b"".join(self._parts))
        self._parts = []


class SimulatedNetwork:
    """Carries messages and timers.

    link: every link, unless `links` names another for (sender, to). rng: draws all chance.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        link: Link = Link(),
        links: Mapping[tuple[int, int], Link] | None = None,
    ):
        self.rng, self.link, self.links = rng, link, dict(links or {})
        self.now_ns = 0
        self.counters, self.trace = Counters(), Trace()
        self._queue: list[tuple[int, int, Delivery | Timer]] = []
        self._sequence = 0
        self._blocked: set[tuple[int, int]] = set()  # asked, never iterated
        self._busy_until: dict[tuple[int, int], int] = {}
        self._arrived: dict[tuple[int, int], int] = {}

    # ------------------------------------------------------------------ scheduling

    def after(self, delay_ns: int, owner: int, what: Any) -> None:
        """Tell `owner` of `what` in a while."""
        self._push(self.now_ns + delay_ns, Timer(owner, what))

    def send(self, sender: int, to: int, payload: Any, size: int) -> None:
        """Put a message of `size` bytes on its way."""
        self.counters.sent += 1
        self.counters.bytes += size
        if (sender, to) in self._blocked:
            self.counters.blocked += 1
            return
        link = self.links.get((sender, to), self.link)
        if link.loss and self.rng.random() < link.loss:
            self.counters.lost += 1
            return
        delivery = Delivery(sender, to, payload, size)
        self._push(self._arrival(link, sender, to, size), delivery)
        if link.duplicate and self.rng.random() < link.duplicate:
            self.counters.duplicated += 1
            self._push(self._arrival(link, sender, to, size), delivery)

    def next(self) -> Delivery | Timer | None:
        """Move to the next event; None if nothing is left to happen."""
        while self._queue:
            self.now_ns, _, event = heapq.heappop(self._queue)
            if type(event) is Timer:
                return event
            if (event.sender, event.to) not in self._blocked:
                self.counters.delivered += 1
                return event
            self.counters.blocked += 1
        return None

    def _push(self, time_ns: int, event: Delivery | Timer) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (time_ns, self._sequence, event))

    def _arrival(self, link: Link, sender: int, to: int, size: int) -> int:
        leaves = self.now_ns
        if link.bytes_per_s:
            leaves = max(leaves, self._busy_until.get((sender, to), 0))
            leaves += size * 1_000_000_000 // link.bytes_per_s
            self._busy_until[sender, to] = leaves
        arrives = leaves + link.latency.draw(self.rng) * NS_PER_US
        if not link.reorder:
            arrives = max(arrives, self._arrived.get((sender, to), 0))
            self._arrived[sender, to] = arrives
        return arrives

    # ------------------------------------------------------------------ faults

    def block(self, sender: int, to: int) -> None:
        """Nothing gets from `sender` to `to` any more, not even what is on its way."""
        self._blocked.add((sender, to))

    def partition(self, groups: Iterable[Iterable[int]]) -> None:
        """Only servers of one group hear each other; two-way."""
        groups = [tuple(group) for group in groups]
        for group in groups:
            for other in groups:
                if other is not group:
                    self._blocked.update((a, b) for a in group for b in other)

    def heal(self) -> None:
        """All links work again; losses and delays stay what the links say."""
        self._blocked.clear()
