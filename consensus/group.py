"""Group: servers, their ordering cores and a simulated network: one round, event by event.

Models travel between servers directly; everything else goes through the common order, but for the
final signatures.

Paper: none; our derivation (deterministic simulation, see `SimulatedNetwork`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

from consensus.actions import Action, Fetch, Propose, Tell, Wait
from consensus.costs import Ledger
from consensus.judge import Judge
from consensus.network.simulated import NS_PER_US, Delivery, SimulatedNetwork
from consensus.ordering import NOBODY, Ordering
from consensus.pofel import effects as fx
from consensus.pofel.messages import Entry
from consensus.pofel.state import Phase
from consensus.server import Server
from fedalign.core.errors import QuorumLostError
from fedalign.core.seeds import Seeds

NS_PER_MS = 1000 * NS_PER_US
EVERYBODY = -1  # the receiver of a message to all others
HEALER = -1  # owner of the timer that ends a partition
HEADER = 64  # bytes of a message besides its content
AGAIN_MS = 233  # between two attempts to get what is missing; no multiple of a usual tick
BATCH_US = 100  # a leader waits so long for proposals that arrive together
GRACE_MS = 200  # servers behind a final block have so long to catch up by themselves


class Host:
    """One server's place: its core, and what waits to be proposed."""

    def __init__(self, server: Server, core: Any, judge: Judge):
        self.server, self.core, self.judge = server, core, judge
        self.batch: list[bytes] = []
        self.alive = True


class Group:
    """Plays one round. ledger: takes the costs. down: servers that are not there. cut: groups that
    do not hear each other until heal_ms after the beginning, or ever (None)."""

    def __init__(
        self,
        servers: Sequence[Server],
        ordering: Ordering,
        network: SimulatedNetwork,
        seeds: Seeds,
        ledger: Ledger,
        down: Collection[int] = (),
        cut: Sequence[Sequence[int]] = (),
        heal_ms: float | None = None,
    ):
        self.ordering, self.network, self.ledger = ordering, network, ledger
        n, out, self.hosts = len(servers), exiled(servers[0]), []
        for i, server in enumerate(servers):
            judge = Judge(server, lambda: network.now_ns / NS_PER_MS)
            core = ordering.core(i, n, seeds.at("ordering", server=i), judge, out)
            self.hosts.append(Host(server, core, judge))
        for i in down:
            self.hosts[i].alive = False
        self._out, self._phase = out, "election"
        self._last_ns = network.now_ns
        self._cut, self._heal_ms = cut, heal_ms

    # ------------------------------------------------------------ a round

    def elect(self, limit_s: float) -> None:
        """Until all servers that are there know a leader of the order."""
        alive = [host for host in self.hosts if host.alive]
        for host in alive:
            self._after(self.ordering.tick_ms, host, "tick")
            self._after(AGAIN_MS, host, "again")
        first = next((h for h in alive if h.server.index not in self._out), alive[0])
        self.ordering.start(first.core)
        self._settle(first)
        self._run(lambda: all(self._leader(host) != NOBODY for host in alive), limit_s)
        for host in alive:
            host.server.leader = self._leader(host)

    def begin(self, starts: Sequence[Callable[[Server], list[Action]]]) -> None:
        """Everybody begins; starts: by server."""
        self._phase = "commit"
        if self._cut:
            self.network.partition(self._cut)
            if self._heal_ms is not None:
                self.network.after(int(self._heal_ms * NS_PER_MS), HEALER, "heal")
        for host, start in zip(self.hosts, starts, strict=True):
            if host.alive:
                with self.ledger.working("commit"):
                    actions = start(host.server)
                self._act(host, actions)

    def finish(self, needs: int, limit_s: float, watch: Callable[[], None]) -> None:
        """Until `needs` servers have a final block; the others may then catch up for a moment.
        watch: called with every event, may raise."""

        def ready() -> bool:
            watch()
            return self.done() >= needs

        self._run(ready, limit_s)
        self._phase = "catch up"
        alive = sum(host.alive for host in self.hosts)
        with suppress(QuorumLostError):  # cut off: the next round brings them the state
            self._run(lambda: self.done() >= alive, GRACE_MS / 1000)

    def done(self) -> int:
        """How many servers have the round's final block."""
        return sum(host.alive and host.server.done() for host in self.hosts)

    # ------------------------------------------------------------ events

    def _run(self, until: Callable[[], bool], limit_s: float) -> None:
        limit_ns = self.network.now_ns + int(limit_s * 1e9)
        while not until():
            event = self.network.next()
            if event is None or self.network.now_ns > limit_ns:
                raise QuorumLostError(
                    f"After {limit_s:g} simulated seconds {self.done()} of {len(self.hosts)} "
                    "servers have a final block: too few servers are there, or messages are lost."
                )
            self._clock()
            if type(event) is Delivery:
                self._deliver(event)
            elif event.owner == HEALER:
                self.network.heal()
            elif self.hosts[event.owner].alive:
                self._timer(self.hosts[event.owner], event.what)

    def _clock(self) -> None:
        """Time counts to the phase of the first server that is there."""
        passed, self._last_ns = self.network.now_ns - self._last_ns, self.network.now_ns
        self.ledger.lasted(self._phase, passed / 1e9)
        if self._phase not in ("election", "catch up"):
            self._phase = phase_of(next(host for host in self.hosts if host.alive).server)

    def _deliver(self, event: Delivery) -> None:
        host = self.hosts[event.to]
        if not host.alive:
            return
        kind, *rest = event.payload
        if kind == "order":
            with self.ledger.working("order"):
                self.ordering.step(host.core, event.sender, rest[0])
                self._settle(host)
        elif kind == "items":
            self._collect(host, rest[0])
        elif kind == "get":
            self._serve(host, event.sender, rest[0])
        elif kind == "give":
            with self.ledger.working(phase_of(host.server)):
                actions = host.server.fetched(*rest)
            self._act(host, actions)
        elif kind == "final":
            with self.ledger.working("final"):
                host.server.final(rest[0])

    def _timer(self, host: Host, what: Any) -> None:
        if what == "tick":
            self._after(self.ordering.tick_ms, host, "tick")
            with self.ledger.working("order"):
                host.core.tick()
                self._settle(host)
        elif what == "again":
            self._after(AGAIN_MS, host, "again")
            self._act(host, host.server.again())
        elif what == "flush":
            batch, host.batch = host.batch, []
            with self.ledger.working("order"):
                self.ordering.propose(host.core, batch)
                self._settle(host)
        elif isinstance(what, fx.SetTimer):
            self._act(host, host.server.timeout(what))

    def _settle(self, host: Host) -> None:
        """Do what the core asks for until it asks for nothing."""
        core = host.core
        while core.has_ready():
            ready = core.ready()
            for message in (*ready.messages, *ready.messages_after_persist):
                size = self.ordering.size(message)
                for to in self._targets(host, message.to):
                    self._send(host, to, ("order", message), size)
            for data in self.ordering.committed(ready):
                with self.ledger.working(phase_of(host.server)):
                    actions = host.server.ordered(Entry.decode(data))
                self._act(host, actions)
            core.advance(ready.ack)
        leader = self._leader(host)
        if leader != host.server.leader and self._phase != "election":
            self._act(host, host.server.led_by(leader))

    # ------------------------------------------------------------ actions

    def _act(self, host: Host, actions: Sequence[Action]) -> None:
        proposals = [action.entry.encode() for action in actions if isinstance(action, Propose)]
        for action in actions:
            if isinstance(action, Fetch):
                self._send(host, action.source, ("get", action.root), HEADER + 32)
            elif isinstance(action, Wait):
                host.judge.started(action.timer)
                self._after(action.timer.after_ms, host, action.timer)
            elif isinstance(action, Tell):
                size = HEADER + len(action.final.encode())
                for to in self._targets(host, EVERYBODY):
                    self._send(host, to, ("final", action.final), size)
        route = self.ordering.route(host.core)
        if not proposals or route == NOBODY:
            return  # `again` says them once somebody leads
        if route == host.server.index:
            self._collect(host, proposals)
        else:
            self.ordering.remember(host.core, proposals)
            self._send(host, route, ("items", proposals), HEADER + sum(map(len, proposals)))

    def _targets(self, host: Host, to: int) -> Sequence[int]:
        if to != EVERYBODY:
            return (to,)
        return [i for i in range(len(self.hosts)) if i != host.server.index]

    def _collect(self, host: Host, proposals: Sequence[bytes]) -> None:
        with self.ledger.working("order"):
            good = list(filter(host.judge.admits, proposals))
        if good and not host.batch:
            self.network.after(BATCH_US * NS_PER_US, host.server.index, "flush")
        host.batch += good

    def _serve(self, host: Host, to: int, root: bytes) -> None:
        server = host.server
        if root not in server.store or (server.fault is not None and not server.fault.serves(to)):
            return
        data = server.store.data(root)
        self._send(host, to, ("give", root, data), HEADER + len(data), model=True)

    def _send(
        self, host: Host, to: int, payload: tuple, size: int, model: bool = False,
       
    ) -> None:  # fmt: skip
        phase = "final" if payload[0] == "final" else phase_of(host.server)
        if self._phase in ("election", "catch up"):
            phase = self._phase
        self.ledger.sent(phase, size, model)
        self.network.send(host.server.index, to, payload, size)

    def _leader(self, host: Host) -> int:
        return self.ordering.leader(host.core)

    def _after(self, ms: float, host: Host, what: Any) -> None:
        self.network.after(int(ms * NS_PER_MS), host.server.index, what)


def exiled(server: Server) -> tuple[int, ...]:
    """Positions without a voice at the height that `server` is to agree on."""
    machine = server.machine
    present = machine.state.members(machine.settings)
    return tuple(i for i, node in enumerate(machine.settings.members) if node not in present)


def phase_of(server: Server) -> str:
    """Where a server is, in words."""
    if server.over:
        return "final"
    return Phase(server.machine.state.phase).name.lower()
