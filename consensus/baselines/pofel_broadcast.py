"""PoFEL by broadcast: no common order; everybody sends to everybody and trusts the clock.

Synchrony is taken for granted: what arrives before a phase's deadline counts. Where a message is
in time for some only, servers elect different leaders and the chain forks.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (broadcast remembered, not certain).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import process_time

import numpy as np

from consensus.actions import Action, Fetch, Proposal, Propose, Wait
from consensus.identity import Key
from consensus.network.links import Link
from consensus.network.simulated import NS_PER_US, Delivery, SimulatedNetwork
from consensus.pofel import marks
from consensus.pofel.effects import Effect, SendAvail, SetTimer
from consensus.pofel.machine import RoundMachine
from consensus.pofel.messages import Entry, Kind, Mark
from consensus.pofel.settings import Settings
from consensus.pofel.state import Phase
from consensus.pofel.task import Evaluated, Evaluator, Task
from consensus.server import Server
from consensus.work import DONE
from fedalign.core.seeds import Seeds

NS_PER_MS = 1000 * NS_PER_US
HEADER = 64
_EXPECTED = {Phase.COMMIT: Kind.COMMIT, Phase.REVEAL: Kind.REVEAL,
             Phase.VOTE_COMMIT: Kind.VOTE_COMMIT, Phase.VOTE: Kind.VOTE}  # fmt: skip


class BroadcastMachine(RoundMachine):
    """Rounds whose phases each server ends by itself: marks are no evidence, and nobody tells
    what it could fetch."""

    def _mark(self, entry: Entry, body: Mark) -> list[Effect]:
        effects = super()._mark(entry, body)
        if self.state.phase != Phase.AVAIL:
            return effects
        roots = tuple(root for root, _, _ in self.state.reveals.values())
        held = {node: roots for node in self.state.members(self.settings)}
        kept = [e for e in effects if not isinstance(e, SendAvail | SetTimer)]
        self.state, more = marks.close(replace(self.state, avails=held), self.settings, None)
        return [*kept, *more]

    def _witness(self, entry: Entry) -> None:
        if entry.kind is not Kind.MARK:
            super()._witness(entry)


@dataclass(frozen=True)
class Played:
    """One round. messages, bytes: of control. leaders, heads: what each server accepted, in its
    own view. latency_s: until the last one did. cpu_s, signatures, hashes: of all servers."""

    messages: int
    bytes: int
    leaders: tuple[int, ...]
    heads: tuple[bytes, ...]
    latency_s: float
    cpu_s: float
    signatures: int
    hashes: int

    @property
    def forked(self) -> bool:
        """Whether servers accepted different blocks."""
        return len(set(self.heads)) > 1


class PofelBroadcast:
    """n servers on a synchronous network. settings: as of a chain. links: of single connections."""

    def __init__(
        self, servers: int, seed: int = 0, link: Link = Link(),
        links: Mapping[tuple[int, int], Link] | None = None, **settings,
    ):  # fmt: skip
        self._seeds = Seeds(seed)
        keys = [Key(self._seeds.key("server_key", server=i)) for i in range(servers)]
        self.settings = Settings(131_277, tuple(key.node_id for key in keys), **settings)
        self.servers = [
            Server(i, key, BroadcastMachine(self.settings)) for i, key in enumerate(keys)
        ]
        self.network = SimulatedNetwork(self._seeds.at("network"), link, links)
        self._inbox: list[list[Entry]] = [[] for _ in keys]
        self._messages = self._bytes = 0
        self._leaders: dict[int, int] = {}

    def play(self, rows: np.ndarray, sizes: Sequence[int], limit_s: float = 300.0) -> Played:
        """One round on updates (n, d) int64 at the chain's scale."""
        began, start_ns = process_time(), self.network.now_ns
        signatures, hashes = DONE.signatures, DONE.hashes
        limit_ns = start_ns + int(limit_s * 1e9)
        for i, server in enumerate(self.servers):
            proposal = Proposal(rows[i], int(sizes[i]), rows.shape[1], 1)
            self._act(i, server.begin(proposal, self._evaluate))
        while not all(server.over for server in self.servers):
            event = self.network.next()
            if event is None or self.network.now_ns > limit_ns:
                break
            if type(event) is Delivery:
                self._arrive(event)
            else:
                self._end(event.owner, event.what)
        return Played(
            self._messages, self._bytes, tuple(self._leaders.get(i, -1) for i in self._places()),
            tuple(server.machine.state.head for server in self.servers),
            (self.network.now_ns - start_ns) / 1e9, process_time() - began,
            DONE.signatures - signatures, DONE.hashes - hashes,
        )  # fmt: skip

    # ------------------------------------------------------------ events

    def _places(self) -> range:
        return range(len(self.servers))

    def _arrive(self, event: Delivery) -> None:
        kind, content = event.payload
        if kind == "entry":
            self._inbox[event.to].append(content)
            self._look(event.to)
        elif kind == "get":
            data = self.servers[event.to].store.data(content)
            payload = ("give", (content, data))
            self.network.send(event.to, event.sender, payload, HEADER + len(data))
        else:
            self._act(event.to, self.servers[event.to].fetched(*content))

    def _look(self, i: int) -> None:
        """Blocks count when they come; a phase ends early once everybody's item is there."""
        machine = self.servers[i].machine
        state = machine.state
        here = [entry for entry in self._inbox[i] if machine._late(entry) is None]
        if state.phase == Phase.BLOCK:
            for block in (entry for entry in here if entry.kind is Kind.BLOCK):
                self._inbox[i].remove(block)
                self._apply(i, block)
            return
        kind = _EXPECTED[Phase(state.phase)]
        senders = {entry.sender for entry in here if entry.kind is kind}
        due = {
            Phase.REVEAL: len(state.committers),
            Phase.VOTE: len(state.ballots) or len(self.servers),
        }.get(Phase(state.phase), len(self.servers))
        if len(senders) >= due:
            self._end(i, SetTimer(state.round, int(state.phase), state.rank, 0))

    def _end(self, i: int, timer: SetTimer) -> None:
        """Time is up, or all is there: take what came, in the order of the senders."""
        server = self.servers[i]
        machine, state = server.machine, server.machine.state
        where = (timer.round, timer.phase, timer.rank)
        if where != (state.round, int(state.phase), state.rank) or server.over:
            return
        taken = [entry for entry in self._inbox[i] if machine._late(entry) is None]
        self._inbox[i] = [entry for entry in self._inbox[i] if entry not in taken]
        for entry in sorted(taken, key=lambda entry: entry.sender):
            self._apply(i, entry)
        if (machine.state.round, int(machine.state.phase)) == where[:2]:
            mark = Mark(int(state.phase), state.rank, 1)
            chain = self.settings.chain_id
            self._apply(i, Entry.sign(server.key, chain, state.round, mark, state.rank))
        self._look(i)

    def _apply(self, i: int, entry: Entry) -> None:
        server = self.servers[i]
        height = server.machine.state.height
        actions = server.ordered(entry)
        if server.machine.state.height > height:
            self._leaders[i] = self.settings.members.index(entry.sender)
        self._act(i, actions)

    def _act(self, i: int, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Wait):
                self.network.after(action.timer.after_ms * NS_PER_MS, i, action.timer)
            elif isinstance(action, Fetch):
                self.network.send(i, action.source, ("get", action.root), HEADER + 32)
            elif isinstance(action, Propose) and action.entry.kind is not Kind.MARK:
                self._tell(i, action.entry)

    def _tell(self, i: int, entry: Entry) -> None:
        size = HEADER + len(entry.encode())
        for to in self._places():
            if to != i:
                self._messages += 1
                self._bytes += size
                self.network.send(i, to, ("entry", entry), size)
        self._inbox[i].append(entry)
        self._look(i)

    def _evaluate(self, task: Task, read) -> Evaluated:
        return Evaluator()(task, {root: read(root) for root in task.roots})
