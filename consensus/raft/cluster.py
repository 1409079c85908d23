"""Cluster: Raft servers with simulated disks on a simulated network, and their clients.

Everything is one event after another; after each, the invariants are checked.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Chapter 10.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from hashlib import sha256
from zlib import crc32

from consensus.network.links import Constant, Latency, Link
from consensus.network.simulated import NS_PER_US, Delivery, SimulatedNetwork, Timer
from consensus.network.simulated_disk import SimulatedDisk
from consensus.raft.confchange import ConfChange
from consensus.raft.config import RaftConfig
from consensus.raft.core import Raft
from consensus.raft.history import Operation
from consensus.raft.invariants import Invariants
from consensus.raft.messages import ConfState, Entry, EntryKind, Message, Ready, Snapshot
from consensus.wal import WriteAheadLog
from fedalign.core.seeds import Seeds


@dataclass(frozen=True)
class Setting:
    """What a cluster is made of.

    seed: of all chance. servers: how many voters it begins with, ids 0 .. servers - 1.
    tick_us: length of a tick; server i's is tick_us * skew_percent[i] / 100 (missing: 100).
    disk: time to force a write out. snapshot_every: applied entries between snapshots, 0 never.
    """

    seed: int = 0
    servers: int = 3
    config: RaftConfig = RaftConfig()
    link: Link = Link()
    disk: Latency = Constant(0)
    tick_us: int = 50_000
    skew_percent: tuple[int, ...] = ()
    snapshot_every: int = 0


class Machine:
    """The replicated application: lists to which clients append, and a digest of all it took in."""

    def __init__(self) -> None:
        self.index, self.digest, self.lists = 0, bytes(32), {}

    def apply(self, entry: Entry) -> None:
        """Take in the next entry."""
        part = struct.pack("<QQB", entry.term, entry.index, entry.kind) + entry.data
        self.index, self.digest = entry.index, sha256(self.digest + part).digest()
        if entry.kind is EntryKind.NORMAL and entry.data:
            key, _, value = entry.data.decode().partition("=")
            values = self.lists.setdefault(key, [])
            if value not in values:  # the network may have doubled a forwarded proposal
                values.append(value)

    def dump(self) -> bytes:
        """All of it, for a snapshot."""
        return json.dumps([self.index, self.digest.hex(), self.lists]).encode()

    @classmethod
    def load(cls, data: bytes) -> Machine:
        """Inverse of `dump`; no data is the empty machine."""
        machine = cls()
        if data:
            machine.index, digest, machine.lists = json.loads(data)
            machine.digest = bytes.fromhex(digest)
        return machine


class Host:
    """One server: a disk that outlives crashes, and what is in memory while it runs."""

    def __init__(self, id: int, initial: ConfState):
        self.id, self.initial = id, initial
        self.disk = SimulatedDisk()
        self.alive, self.incarnation = False, 0
        self.writing = self.disk_free_ns = 0  # Readys on their way to the disk, and until when
        self.core: Raft | None = None
        self.wal: WriteAheadLog | None = None
        self.machine = Machine()
        self.proposed: dict[tuple[int, int], int] = {}  # (term, index) -> operation
        self.reads: list[tuple[int, int]] = []  # (index, operation) that wait to be applied


class Cluster:
    """Servers, network and clients of one setting. `violations` raise out of `run`."""

    def __init__(self, setting: Setting):
        self.setting, self._seeds = setting, Seeds(setting.seed)
        self.network = SimulatedNetwork(self._seeds.at("network"), setting.link)
        self._disk_rng = self._seeds.at("disk")
        self.invariants = Invariants()
        self.hosts: dict[int, Host] = {}
        self.operations: list[Operation] = []
        self.events = 0
        self._initial = ConfState(tuple(range(setting.servers)))
        for id in range(setting.servers):
            self.start(id)

    # ------------------------------------------------------------------ servers

    def start(self, id: int) -> None:
        """Start a server, or start it again; unknown ones begin outside of any configuration."""
        if id not in self.hosts:
            known = id in self._initial.voters
            self.hosts[id] = Host(id, self._initial if known else ConfState())
        host = self.hosts[id]
        if host.alive:
            return
        host.alive, host.incarnation = True, host.incarnation + 1
        host.wal = WriteAheadLog(host.disk, host.initial, segment_bytes=16384, reserve=False)
        try:
            durable = host.wal.load()
        except OSError:
            self.crash(id)
            return
        rng = self._seeds.at("election", server=id, incarnation=host.incarnation)
        host.core = Raft(id, self.setting.config, durable, rng)
        host.machine = Machine.load(durable.snapshot.data)
        host.proposed, host.reads, host.writing = {}, [], 0
        self.network.after(int(rng.integers(self._period(id))), id, host.incarnation)
        self.invariants.after(host.core)

    def crash(self, id: int) -> None:
        """Power off: what was not forced to disk is lost, kept or torn."""
        host = self.hosts.get(id)
        if host is not None and host.alive:
            host.alive, host.core = False, None
            host.disk.crash(self._disk_rng)

    def leader(self) -> Host | None:
        """The live leader of the highest term, if there is one."""
        leaders = [h for h in self.hosts.values() if h.alive and h.core.is_leader()]
        return max(leaders, key=lambda host: host.core.term, default=None)

    def _period(self, id: int) -> int:
        skew = self.setting.skew_percent
        percent = skew[id] if id < len(skew) else 100
        return self.setting.tick_us * NS_PER_US * percent // 100

    # ------------------------------------------------------------------ clients

    def append(self, id: int, key: str, value: str) -> None:
        """A client asks server `id` to append a value nobody else appends."""
        host = self.hosts[id]
        if not host.alive:
            return
        proposed = host.core.propose(f"{key}={value}".encode())
        if proposed.status == "dropped":
            return
        if proposed.status == "accepted":
            host.proposed[proposed.term, proposed.index] = len(self.operations)
        self.operations.append(Operation(key, self.network.now_ns, None, value))
        self._settle(host)

    def read(self, id: int, key: str) -> None:
        """A client asks server `id` for a whole list."""
        host = self.hosts[id]
        if host.alive and host.core.read_index(struct.pack("<Q", len(self.operations))):
            self.operations.append(Operation(key, self.network.now_ns, None))
            self._settle(host)

    def change(self, change: ConfChange) -> str:
        """Ask the leader for another configuration; why not, or empty."""
        host = self.leader()
        if host is None:
            return "no leader"
        reason = host.core.propose_conf_change(change).reason
        self._settle(host)
        return reason

    def transfer(self, target: int) -> None:
        """Ask the leader to hand over."""
        host = self.leader()
        if host is not None:
            host.core.transfer_leadership(target)
            self._settle(host)

    # ------------------------------------------------------------------ events

    def run(self, duration_us: int) -> None:
        """Let time pass; events due exactly at the end still happen."""
        self.network.after(duration_us * NS_PER_US, -1, self)
        while self.step():
            pass

    def step(self) -> bool:
        """One event; False when the time of `run` is up or nothing can happen any more."""
        event = self.network.next()
        if event is None or (type(event) is Timer and event.owner == -1):
            return False
        self.events += 1
        if type(event) is Delivery:
            self._deliver(event)
        elif isinstance(event.what, int):
            self._tick(self.hosts[event.owner], event.what)
        else:
            incarnation, ready = event.what
            host = self.hosts[event.owner]
            if host.alive and host.incarnation == incarnation:
                self._record(b"d", host.id, b"")
                host.writing -= 1
                self._persisted(host, ready)
                self._settle(host)
        return True

    def _deliver(self, event: Delivery) -> None:
        host = self.hosts.get(event.to)
        if host is not None and host.alive:
            self._record(b"m", host.id, fingerprint(event.payload))
            host.core.step(event.payload)
            self._settle(host)

    def _tick(self, host: Host, incarnation: int) -> None:
        if host.alive and host.incarnation == incarnation:
            self.network.after(self._period(host.id), host.id, incarnation)
            self._record(b"t", host.id, b"")
            host.core.tick()
            self._settle(host)

    def _settle(self, host: Host) -> None:
        """Do what the core asks for until it asks for nothing, then look at the invariants."""
        core = host.core
        while host.alive and core.has_ready():
            self._obey(host, core.ready())
        if host.alive:
            self.invariants.after(core)

    def _obey(self, host: Host, ready: Ready) -> None:
        """Write, send what may go at once, and come back when the disk is done."""
        if not self._survives(host, lambda: self._write(host, ready)):
            return
        self._send(host, ready.messages)
        for state in ready.read_states:
            host.reads.append((state.index, struct.unpack("<Q", state.context)[0]))
        delay = self.setting.disk.draw(self._disk_rng) * NS_PER_US if ready.must_sync else 0
        done = max(self.network.now_ns + delay, host.disk_free_ns)
        host.disk_free_ns = done
        if done > self.network.now_ns or host.writing:
            host.writing += 1
            self.network.after(done - self.network.now_ns, host.id, (host.incarnation, ready))
        else:
            self._persisted(host, ready)

    def _write(self, host: Host, ready: Ready) -> None:
        if ready.hard_state is not None or ready.entries or ready.snapshot is not None:
            host.wal.save(ready.hard_state, ready.entries, ready.snapshot, sync=False)

    def _persisted(self, host: Host, ready: Ready) -> None:
        if ready.must_sync and not self._survives(host, host.wal.sync):
            return
        for message in ready.persisted.responses:
            self.invariants.sent(message)
        self._send(host, ready.messages_after_persist)
        if ready.snapshot is not None:
            host.machine = Machine.load(ready.snapshot.data)
        for entry in ready.committed_entries:
            self._apply(host, entry)
        host.core.advance(ready.ack)
        self._answer_reads(host)
        self._maybe_snapshot(host)

    def _survives(self, host: Host, action) -> bool:
        """A server whose disk fails stops at once: what it wrote may be gone or not."""
        try:
            action()
        except OSError:
            self.crash(host.id)
        return host.alive

    def _apply(self, host: Host, entry: Entry) -> None:
        machine = host.machine
        machine.apply(entry)
        self.invariants.applied(host.id, entry.index, machine.digest)
        operation = host.proposed.pop((entry.term, entry.index), None)
        if operation is not None:
            self._finish(operation, None)

    def _answer_reads(self, host: Host) -> None:
        waiting, host.reads = host.reads, []
        for index, operation in waiting:
            if index > host.machine.index:
                host.reads.append((index, operation))
            else:
                key = self.operations[operation].key
                self._finish(operation, tuple(host.machine.lists.get(key, ())))

    def _finish(self, operation: int, seen: tuple[str, ...] | None) -> None:
        call = self.operations[operation]
        self.operations[operation] = call._replace(finished_ns=self.network.now_ns, seen=seen)

    def _maybe_snapshot(self, host: Host) -> None:
        every, log = self.setting.snapshot_every, host.core.log
        if not every or log.applied < log.snapshot.index + every:
            return
        if host.machine.index != log.applied:
            return  # more is on its way through the disk
        self.invariants.after(host.core)  # before the log forgets
        snapshot = host.core.make_snapshot(host.machine.dump())
        if self._survives(host, lambda: host.wal.save(None, (), snapshot, sync=True)):
            host.core.compact(snapshot)

    # ------------------------------------------------------------------ messages

    def _send(self, host: Host, messages: list[Message]) -> None:
        for message in messages:
            self.invariants.sent(message)
            self._record(b"s", host.id, fingerprint(message))
            self.network.send(host.id, message.to, message, size_of(message))

    def _record(self, what: bytes, server: int, data: bytes) -> None:
        head = struct.pack("<cqQI", what, server, self.network.now_ns, len(data))
        self.network.trace.add(head + data)


def size_of(message: Message) -> int:
    """Bytes on the wire, about."""
    payload = sum([len(entry.data) for entry in message.entries]) + 24 * len(message.entries)
    return 64 + payload + len(message.context) + len(_data(message.snapshot))


def fingerprint(message: Message) -> bytes:
    """Bytes that differ whenever messages do."""
    entries = message.entries
    body = b"".join([entry.data for entry in entries]) if entries else b""
    terms = [entry.term for entry in entries]
    return struct.pack(
        f"<BqqQQQQQ?QI{len(terms)}QI",
        message.kind, message.to, message.sender, message.term, message.log_term, message.index,
        message.commit, message.commit_term, message.reject, message.reject_hint, len(terms), *terms,
        crc32(body + message.context + _data(message.snapshot)),
    )  # fmt: skip


def _data(snapshot: Snapshot | None) -> bytes:
    return b"" if snapshot is None else snapshot.data + struct.pack("<Q", snapshot.index)
