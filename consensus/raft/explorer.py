"""Explorer: every state that a small cluster of real cores can get into.

Time is left out: whoever may run into a time-out may do so now. The wire is a set that only
grows, so every message can be lost, late, overtaken and repeated at will. Writes reach the disk
one by one, and a crash keeps any number of those under way. What one server does depends on
itself and the message alone; that is computed once, so that states are a few numbers each.
States in which a server is as it never was before go first, otherwise the oldest.

Paper: Lamport, "Specifying Systems", 2002, Chapter 14 (explicit-state exploration); the
invariants carry the names of the TLA+ model of etcd-io/raft.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from consensus.raft import explored_server as servers
from consensus.raft.confchange import ConfChange
from consensus.raft.explored_server import Local
from consensus.raft.messages import ConfState, Message
from consensus.raft.quorum import majority
from fedalign.core.errors import ConfigError, FedalignError, IntegrityError


@dataclass(frozen=True)
class Bounds:
    """Where exploring ends.

    servers: how many (2 .. 5), the first `voters` of them vote (None: all). terms: no campaign
    beyond. entries: length of a log, empty entries of new leaders included. crashes: in total.
    writes: under way to one disk before that server waits. pre_vote: as in RaftConfig. change: one
    that leaders may propose, or None.
    """

    servers: int = 3
    voters: int | None = None
    terms: int = 2
    entries: int = 3
    crashes: int = 1
    writes: int = 2
    pre_vote: bool = False
    change: ConfChange | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.servers <= 5 or not 1 <= (self.voters or 1) <= self.servers:
            raise ConfigError(
                f"An explorer takes 2 to 5 servers, of which 1 or more vote; got servers="
                f"{self.servers}, voters={self.voters}."
            )
        if min(self.terms, self.entries, self.writes) < 1 or self.crashes < 0:
            raise ConfigError(
                "terms, entries and writes must be at least 1 and crashes at least 0, got "
                f"{self.terms}, {self.entries}, {self.writes} and {self.crashes}."
            )


class Explored(NamedTuple):
    """states: distinct ones. steps: transitions tried. locals: distinct states of one server.

    complete: the bounds were reached everywhere, not just `most` states.
    """

    states: int
    steps: int
    locals: int
    complete: bool


class Explorer:
    """Explores the cluster within `bounds`; IntegrityError names the way into a bad state."""

    def __init__(self, bounds: Bounds = Bounds()):
        self.bounds = bounds
        self._conf = ConfState(tuple(range(bounds.voters or bounds.servers)))
        self._locals: list[Local] = []
        self._numbers: dict[tuple, int] = {}
        self._messages: list[Message] = []
        self._bits: dict[Message, int] = {}
        self._to = [0] * bounds.servers  # wires with every known message to this server
        self._moves: list[list[tuple[str, int, int, int]]] = []  # name, local, wire, crashes
        self._delivered: list[dict[int, tuple[int, int]]] = []  # by bit: local, wire
        self._ignored: list[int] = []  # messages that change nothing
        self._fitting: set[tuple[int, int]] = set()
        self._held: set[tuple[int, ...]] = set()
        self._met: set[int] = set()  # states of servers within states already queued

    def explore(self, most: int = 1_000_000) -> Explored:
        """Go on until everything within the bounds, or `most` distinct states, were seen."""
        first = tuple(
            self._number(servers.begin(id, self._conf, self.bounds.pre_vote))
            for id in range(self.bounds.servers)
        )
        start = (first, 0, 0)
        came_from: dict[tuple, tuple | None] = {start: None}
        new, old = deque([start]), deque()
        steps = 0
        while (new or old) and len(came_from) < most:
            state = new.popleft() if new else old.popleft()
            try:
                for _, after in self._after(state):
                    steps += 1
                    if after not in came_from:
                        came_from[after] = state
                        self._check(state, after)
                        (new if self._is_new(after) else old).append(after)
            except FedalignError as error:
                way = self._way(came_from, state)
                raise IntegrityError(f"{error}\nThe way there: {'; '.join(way)}.") from error
        return Explored(len(came_from), steps, len(self._locals), not (new or old))

    def _is_new(self, state: tuple) -> bool:
        """Is a server in a state it never was in before?"""
        before = len(self._met)
        self._met.update(state[0])
        return len(self._met) > before

    # ------------------------------------------------------------------ steps

    def _after(self, state: tuple):
        """What may happen next: (name, state), repetitions included."""
        locals_, wire, crashes = state
        for id, local in enumerate(locals_):
            head, tail = locals_[:id], locals_[id + 1 :]
            if not self._moves[local]:
                self._moves[local] = self._own_moves(self._locals[local])
            for name, to, sent, crashed in self._moves[local]:
                if to >= 0 and crashes + crashed <= self.bounds.crashes:
                    yield name, ((*head, to, *tail), wire | sent, crashes + crashed)
            if len(self._locals[local].writing) >= self.bounds.writes:
                continue
            waiting = wire & self._to[id] & ~self._ignored[local]
            while waiting:
                bit = waiting & -waiting
                waiting ^= bit
                to, sent = self._delivery(local, bit)
                if to != local or sent & ~wire:
                    yield bit, ((*head, to, *tail), wire | sent, crashes)

    def _own_moves(self, local: Local) -> list[tuple[str, int, int, int]]:
        """Moves that need no message. Always one: nothing may look as if it were not computed."""
        moves = [("", -1, 0, 0)]
        for name, after, sent, crashed in servers.moves(local, self.bounds):
            moves.append((name, self._number(after), self._wire(sent), crashed))
        return moves

    def _delivery(self, number: int, bit: int) -> tuple[int, int]:
        known = self._delivered[number].get(bit)
        if known is None:
            message = self._messages[bit.bit_length() - 1]
            after, sent = servers.deliver(self._locals[number], message)
            known = self._number(after), self._wire(sent)
            self._delivered[number][bit] = known
            if known == (number, 0):
                self._ignored[number] |= bit
        return known

    def _number(self, local: Local) -> int:
        key = local.key()
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._locals)
            self._locals.append(local)
            self._moves.append([])
            self._delivered.append({})
            self._ignored.append(0)
        return number

    def _wire(self, messages: list[Message]) -> int:
        wire = 0
        for message in messages:
            message = message._replace(entries=tuple(message.entries))
            bit = self._bits.get(message)
            if bit is None:
                bit = self._bits[message] = 1 << len(self._messages)
                self._messages.append(message)
                self._to[message.to] |= bit
            wire |= bit
        return wire

    # ------------------------------------------------------------------ invariants

    def _check(self, before: tuple, after: tuple) -> None:
        changed = [n for n, old in zip(after[0], before[0], strict=True) if n != old]
        for number in changed:
            for other in after[0]:
                pair = (number, other)
                if number != other and pair not in self._fitting:
                    one, two = self._locals[number], self._locals[other]
                    servers.compare(one, two)
                    servers.compare(two, one)
                    self._fitting |= {pair, pair[::-1]}
        if changed and self.bounds.change is None and after[0] not in self._held:
            self._demand_quorum([self._locals[number] for number in after[0]])
            self._held.add(after[0])

    def _demand_quorum(self, cluster: list[Local]) -> None:
        """QuorumLogInv, CommittedIsDurableInv: what is committed is on a majority of disks."""
        committed = max((local.committed for local in cluster), key=len)
        size = len(committed)
        disks = [tuple(cluster[id].disk.entries[:size]) for id in self._conf.voters]
        if sum(disk == committed for disk in disks) < majority(len(disks)):
            raise IntegrityError(f"QuorumLogInv: {size} entries are committed, disks hold {disks}.")

    def _way(self, came_from: dict, state: tuple) -> list[str]:
        """Names of the steps from the start to `state`."""
        states = [state]
        while came_from[states[-1]] is not None:
            states.append(came_from[states[-1]])
        states.reverse()
        way = []
        for one, two in pairwise(states):
            name = next(name for name, after in self._after(one) if after == two)
            if isinstance(name, int):
                m = self._messages[name.bit_length() - 1]
                name = f"{m.to} takes {m.kind.name} {m.index}/{m.log_term} of {m.sender}@{m.term}"
            way.append(name)
        return way
