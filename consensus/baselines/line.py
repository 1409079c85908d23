"""Line: ordering cores alone on a simulated network: entries go in, every server's order comes out.

Paper: none; our derivation (to compare protocols without what is built on them).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from time import process_time

from consensus.network.links import Link
from consensus.network.simulated import NS_PER_US, Delivery, SimulatedNetwork
from consensus.ordering import NOBODY, Ordering
from consensus.work import DONE
from fedalign.core.errors import QuorumLostError
from fedalign.core.seeds import Seeds

NS_PER_MS = 1000 * NS_PER_US


class Line:
    """n servers, some of them down. After every entry of `order` the counters tell its cost.

    messages, bytes: sent. cpu_s: process time of all cores; signatures, hashes: theirs. now_s:
    simulated time. logs: what each server has been handed, in order.
    """

    def __init__(
        self, ordering: Ordering, servers: int, seed: int = 0, link: Link = Link(),
        down: Collection[int] = (),
    ):  # fmt: skip
        seeds = Seeds(seed)
        self.ordering, self.servers = ordering, servers
        self.network = SimulatedNetwork(seeds.at("network"), link)
        self.cores = [ordering.core(i, servers, seeds.at("ordering", server=i))
                      for i in range(servers)]  # fmt: skip
        self.alive = [i for i in range(servers) if i not in down]
        self.logs: list[list[bytes]] = [[] for _ in range(servers)]
        self.messages = self.bytes = 0
        self.cpu_s = 0.0
        self.signatures = self.hashes = 0
        for i in self.alive:
            self._tick(i)
        self._do(self.alive[0], lambda core: ordering.start(core))

    @property
    def now_s(self) -> float:
        return self.network.now_ns / 1e9

    def settle(self, limit_s: float = 60.0) -> None:
        """Until everybody who is there knows a leader."""
        self._run(lambda: all(self._leader(i) != NOBODY for i in self.alive), limit_s)

    def order(self, data: bytes, at: int | None = None, limit_s: float = 600.0) -> float:
        """Have one entry ordered by all who are there; the simulated seconds it took.

        at: the server that proposes; None: whoever leads. Raises QuorumLostError.
        """
        began = self.now_s
        first = self._leader(self.alive[0])
        place = at if at is not None else first if first in self.alive else self.alive[0]
        self._offer(place, data)
        self._retry(place, data)
        self._run(lambda: all(data in self.logs[i] for i in self.alive), limit_s)
        return self.now_s - began

    def idle(self, seconds: float) -> None:
        """Let time pass."""
        end = self.network.now_ns + int(seconds * 1e9)
        self.network.after(int(seconds * 1e9), -1, "end")
        self._run(lambda: self.network.now_ns >= end, seconds + 1)

    # ------------------------------------------------------------ events

    def _run(self, until: Callable[[], bool], limit_s: float) -> None:
        limit_ns = self.network.now_ns + int(limit_s * 1e9)
        while not until():
            event = self.network.next()
            if event is None or self.network.now_ns > limit_ns:
                raise QuorumLostError(
                    f"{len(self.alive)} of {self.servers} servers did not order an entry within "
                    f"{limit_s:g} simulated seconds."
                )
            if type(event) is Delivery:
                if event.to in self.alive:
                    self._arrive(event)
            elif event.what == "tick":
                self._do(event.owner, lambda core: core.tick())
                self._tick(event.owner)
            elif isinstance(event.what, bytes) and event.what not in self.logs[event.owner]:
                self._offer(event.owner, event.what)
                self._retry(event.owner, event.what)

    def _arrive(self, event: Delivery) -> None:
        kind, content = event.payload
        if kind == "item":
            self._do(event.to, lambda core: self.ordering.propose(core, [content]))
        else:
            self._do(event.to, lambda core: self.ordering.step(core, event.sender, content))

    def _offer(self, place: int, data: bytes) -> None:
        route = self.ordering.route(self.cores[place])
        if route == place:
            self._do(place, lambda core: self.ordering.propose(core, [data]))
        elif route != NOBODY:
            self.ordering.remember(self.cores[place], [data])
            self._send(place, route, ("item", data), 64 + len(data))

    def _retry(self, place: int, data: bytes) -> None:
        self.network.after(int(10 * self.ordering.tick_ms * NS_PER_MS), place, data)

    def _do(self, i: int, act: Callable) -> None:
        core = self.cores[i]
        began, signatures, hashes = process_time(), DONE.signatures, DONE.hashes
        act(core)
        while core.has_ready():
            ready = core.ready()
            for message in (*ready.messages, *ready.messages_after_persist):
                size = self.ordering.size(message)
                others = [j for j in range(self.servers) if j != i]
                for to in others if message.to < 0 else (message.to,):
                    self._send(i, to, ("order", message), size)
            self.logs[i] += self.ordering.committed(ready)
            core.advance(ready.ack)
        self.cpu_s += process_time() - began
        self.signatures += DONE.signatures - signatures
        self.hashes += DONE.hashes - hashes

    def _send(self, i: int, to: int, payload: tuple, size: int) -> None:
        self.messages += 1
        self.bytes += size
        self.network.send(i, to, payload, size)

    def _tick(self, i: int) -> None:
        self.network.after(int(self.ordering.tick_ms * NS_PER_MS), i, "tick")

    def _leader(self, i: int) -> int:
        return self.ordering.leader(self.cores[i])
