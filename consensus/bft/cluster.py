"""Cluster: BFT servers with simulated disks on a simulated network; some of them lie.

Liars are the real core: twins (two copies of one server that share its key, each talking to some
of the others), forgetful ones (restarted without their disk), and two-faced ones, whose votes and
proposals are exchanged for others, signed with their key, towards some receivers.

Paper: Bano et al., "Twins: BFT Systems Made Robust", OPODIS 2021.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from consensus.bft.config import BftConfig
from consensus.bft.core import Bft
from consensus.bft.invariants import Invariants
from consensus.bft.journal_log import JournalLog
from consensus.bft.messages import (
    ALL,
    NIL,
    NO_ROUND,
    Body,
    Bundle,
    Decision,
    Equivocation,
    Items,
    Message,
    Proposal,
    Ready,
    Vote,
    digest_of,
    vote_of,
)  # fmt: skip
from consensus.bft.signing import Gate, Signer
from consensus.identity import Key, SignatureCheck
from consensus.network.links import Constant, Latency, Link
from consensus.network.simulated import NS_PER_US, Delivery, SimulatedNetwork, Timer
from consensus.network.simulated_disk import SimulatedDisk
from fedalign.core.seeds import Seeds

CHAIN_ID = 1337
CHECK = SignatureCheck()  # remembers what it has verified; says the same to everyone


@dataclass(frozen=True)
class Setting:
    """What a cluster is made of.

    seed: of all chance. servers: n, ids 0 .. n - 1. twins, forgetful, two_faced: who lies, and how.
    tick_us: length of a tick; server i's is tick_us * skew_percent[i] / 100 (missing: 100).
    disk: time to force a write out. checkpoint_every: records between journal checkpoints, 0 never.
    """

    seed: int = 0
    servers: int = 4
    twins: tuple[int, ...] = ()
    forgetful: tuple[int, ...] = ()
    two_faced: tuple[int, ...] = ()
    config: BftConfig = BftConfig()
    link: Link = Link()
    disk: Latency = Constant(0)
    tick_us: int = 50_000
    skew_percent: tuple[int, ...] = ()
    checkpoint_every: int = 0

    @property
    def honest(self) -> tuple[int, ...]:
        """Servers that follow the protocol."""
        liars = {*self.twins, *self.forgetful, *self.two_faced}
        return tuple(id for id in range(self.servers) if id not in liars)


class Host:
    """One copy of a server. address: on the network; twins have two."""

    def __init__(self, address: int, server: int):
        self.address, self.server = address, server
        self.disk = SimulatedDisk()
        self.alive, self.incarnation = False, 0
        self.writing = self.disk_free_ns = 0
        self.core: Bft | None = None
        self.journal: JournalLog | None = None
        self.gate: Gate | None = None
        self.height, self.items, self.digest, self.records = 0, [], bytes(32), 0


class Cluster:
    """Servers, network and clients of one setting; what breaks an invariant raises out of `run`."""

    def __init__(self, setting: Setting):
        self.setting, self._seeds = setting, Seeds(setting.seed)
        n = setting.servers
        self.network = SimulatedNetwork(self._seeds.at("network"), setting.link)
        self._disk_rng, self._lies = self._seeds.at("disk"), self._seeds.at("lies")
        self.keys = [Key(sha256(b"bft server %d" % id).digest()) for id in range(n)]
        self._node_ids = [key.node_id for key in self.keys]
        self.invariants = Invariants(n, setting.honest)
        self.hosts = [Host(id, id) for id in range(n)]
        self.hosts += [Host(n + i, id) for i, id in enumerate(setting.twins)]
        self.evidence: list[Equivocation] = []
        self.events = 0
        for host in self.hosts:
            self.start(host.address)
        self.split_twins(self._lies)

    # ------------------------------------------------------------------ servers

    def start(self, address: int) -> None:
        """Start a server's copy, or start it again; a forgetful one with an empty disk."""
        host = self.hosts[address]
        if host.alive:
            return
        if host.server in self.setting.forgetful:
            host.disk = SimulatedDisk()
        host.alive, host.incarnation = True, host.incarnation + 1
        host.journal = JournalLog(host.disk, segment_bytes=16384, reserve=False)
        try:
            records = host.journal.load()
        except OSError:
            self.crash(address)
            return
        signer = Signer(self.keys[host.server], CHAIN_ID)
        host.gate = Gate(self._node_ids, CHAIN_ID, CHECK)
        host.core = Bft(
            host.server, range(self.setting.servers), self.setting.config, records, signer
        )
        host.height, host.items, host.digest = 0, [], bytes(32)
        host.writing, host.records = 0, len(records)
        self.network.after(int(self._lies.integers(self._period(host))), address, host.incarnation)
        self._settle(host)

    def crash(self, address: int) -> None:
        """Power off: what was not forced to disk is lost, kept or torn."""
        host = self.hosts[address]
        if host.alive:
            host.alive, host.core = False, None
            host.disk.crash(self._disk_rng)

    def split_twins(self, rng: np.random.Generator) -> None:
        """Each twin talks to some of the others, its double to the rest."""
        for i, server in enumerate(self.setting.twins):
            one, two = server, self.setting.servers + i
            for host in self.hosts:
                if host.server != server:
                    cut = two if rng.random() < 0.5 else one
                    self.network.block(cut, host.address)
                    self.network.block(host.address, cut)

    def honest(self) -> list[Host]:
        """Honest servers that run."""
        return [h for h in self.hosts if h.server in self.setting.honest and h.alive]

    def append(self, address: int, item: bytes) -> None:
        """A client asks a server to have `item` ordered."""
        host = self.hosts[address]
        if host.alive:
            self.invariants.asked.add(item)
            host.core.propose(item)
            self._settle(host)

    def _period(self, host: Host) -> int:
        skew = self.setting.skew_percent
        percent = skew[host.server] if host.server < len(skew) else 100
        return self.setting.tick_us * NS_PER_US * percent // 100

    # ------------------------------------------------------------------ events

    def run(self, duration_us: int) -> None:
        """Let time pass; events due exactly at the end still happen."""
        self.network.after(duration_us * NS_PER_US, -1, self)
        while self.step():
            pass

    def step(self) -> bool:
        """One event; False when the time of `run` is up."""
        event = self.network.next()
        if event is None or (type(event) is Timer and event.owner == -1):
            return False
        self.events += 1
        if type(event) is Delivery:
            self._deliver(self.hosts[event.to], event)
            return True
        host = self.hosts[event.owner]
        if isinstance(event.what, int):
            if host.alive and host.incarnation == event.what:
                self.network.after(self._period(host), host.address, host.incarnation)
                host.core.tick()
                self._settle(host)
        elif host.alive and host.incarnation == event.what[0]:
            host.writing -= 1
            self._persisted(host, event.what[1])
            self._settle(host)
        return True

    def _deliver(self, host: Host, event: Delivery) -> None:
        if host.alive:
            body = host.gate.admit(event.payload)
            if body is not None:
                self._record(b"m", host, body)
                sender = self.hosts[event.sender].server
                host.core.step(Message(host.server, body, sender))
                self._settle(host)

    def _settle(self, host: Host) -> None:
        """Do what the core asks for until it asks for nothing."""
        core = host.core
        while host.alive and core.has_ready():
            self._obey(host, core.ready())

    def _obey(self, host: Host, ready: Ready) -> None:
        if ready.records:
            host.journal.append(ready.records)
            host.records += len(ready.records)
        for found in ready.evidence:
            self.invariants.accused(found)
            if host.server in self.setting.honest:
                self.evidence.append(found)
        self._send(host, ready.messages)
        delay = self.setting.disk.draw(self._disk_rng) * NS_PER_US if ready.must_sync else 0
        host.disk_free_ns = done = max(self.network.now_ns + delay, host.disk_free_ns)
        if done > self.network.now_ns or host.writing:
            host.writing += 1
            wait = done - self.network.now_ns
            self.network.after(wait, host.address, (host.incarnation, ready))
        else:
            self._persisted(host, ready)

    def _persisted(self, host: Host, ready: Ready) -> None:
        try:
            if ready.must_sync:
                host.journal.sync()
            self._send(host, ready.messages_after_persist)
            for decision in ready.committed_entries:
                self._apply(host, decision)
            if ready.committed_entries:
                host.core.advance(ready.ack)
            every = self.setting.checkpoint_every
            if every and host.records > every and not host.writing and not host.core.has_ready():
                records = host.core.checkpoint()
                host.journal.replace(records)
                host.records = len(records)
        except OSError:
            self.crash(host.address)

    def _apply(self, host: Host, decision: Decision) -> None:
        host.height = decision.height
        host.digest = sha256(host.digest + digest_of(decision.batch)).digest()
        host.items += [item for item in decision.batch if item not in host.items]
        if host.server in self.setting.honest:
            self.invariants.applied(host.server, decision)

    # ------------------------------------------------------------------ messages

    def _send(self, host: Host, messages: list[Message]) -> None:
        for message in messages:
            for other in self.hosts:
                if other.server == host.server or message.to not in (ALL, other.server):
                    continue
                body = message.body
                if host.server in self.setting.two_faced:
                    body = self._other_face(host, body)
                if isinstance(body, Vote | Proposal):
                    self.invariants.sent(body)
                self._record(b"s", host, body)
                self.network.send(host.address, other.address, body, size_of(body))

    def _other_face(self, host: Host, body: Body) -> Body:
        """Half of all votes and proposals say something else, properly signed."""
        if not isinstance(body, Vote | Proposal) or self._lies.random() < 0.5:
            return body
        votes = host.core.votes
        if isinstance(body, Proposal):
            other = body._replace(batch=body.batch[::-1] if self._lies.random() < 0.5 else ())
        else:
            choices = [NIL, *(votes.digests[r] for r in sorted(votes.digests))]
            digest = choices[int(self._lies.integers(len(choices)))]
            other = body._replace(digest=digest, pol_round=NO_ROUND)
        vote = other if isinstance(other, Vote) else vote_of(other)
        return other._replace(signature=Signer(self.keys[host.server], CHAIN_ID)(vote))

    def _record(self, what: bytes, host: Host, body: Body) -> None:
        data = fingerprint(body)
        head = struct.pack("<cqQI", what, host.address, self.network.now_ns, len(data))
        self.network.trace.add(head + data)


def size_of(body: Body) -> int:
    """Bytes on the wire, about."""
    if isinstance(body, Vote):
        return 128
    if isinstance(body, Proposal):
        return 160 + sum(map(len, body.batch))
    if isinstance(body, Decision):
        return 64 + sum(map(len, body.batch)) + 128 * len(body.certificate)
    if isinstance(body, Bundle):
        return 16 + sum(map(size_of, (*body.proposals, *body.votes)))
    return 32 + (sum(map(len, body.data)) if isinstance(body, Items) else 0)


def fingerprint(body: Body) -> bytes:
    """Bytes that differ whenever messages do."""
    if isinstance(body, Vote):
        return body.signature
    if isinstance(body, Proposal):
        return body.signature + digest_of(body.batch)
    if isinstance(body, Bundle):
        return b"".join(part.signature for part in (*body.proposals, *body.votes))
    if isinstance(body, Decision):
        return digest_of(body.batch) + b"".join(vote.signature for vote in body.certificate)
    return repr(body).encode()
