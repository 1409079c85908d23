"""RaftNode: a Raft server in a real process: core, disk, network and application in one loop.

Messages and proposals that arrive together are handled together: one Ready, one write, one
forcing to disk for all of them. Writes happen in a thread of their own; what must wait for the
disk waits, the rest goes on.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Chapter 10.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

from consensus.network.processes import ProcessNetwork
from consensus.raft import wire
from consensus.raft.confchange import ConfChange
from consensus.raft.config import RaftConfig
from consensus.raft.core import Raft
from consensus.raft.messages import Entry, Kind, Message, Ready, Snapshot
from consensus.raft.storage import Storage
from fedalign.core.errors import DataError
from fedalign.core.seeds import Seeds

Done = Callable[[bool], None]
HEARTBEATS = frozenset({Kind.HEARTBEAT, Kind.HEARTBEAT_RESP})


class Application(Protocol):
    """What is replicated."""

    def apply(self, entries: list[Entry]) -> None:
        """Take in the next committed entries."""

    def dump(self) -> bytes | None:
        """All of it, or a hash of it, for a snapshot; None: not now."""

    def load(self, data: bytes) -> None:
        """Inverse of `dump`; empty: the beginning."""


class _Waiting(NamedTuple):
    """Proposals in a row: entries first .. last of `term`, and whom to tell."""

    term: int
    first: int
    last: int
    done: tuple[Done | None, ...]


class RaftNode:
    """One server.

    storage: its disk. application: fed with committed entries. connect: makes its network, given
    what to call with arriving frames. tick_s: length of a tick. snapshot_every: applied entries
    between snapshots (0: never). durable: force writes to disk before promising anything.
    """

    def __init__(
        self,
        id: int,
        config: RaftConfig,
        storage: Storage,
        application: Application,
        connect: Callable[[Callable[[int, bytes], None]], ProcessNetwork],
        tick_s: float = 0.01,
        snapshot_every: int = 10_000,
        durable: bool = True,
        seed: int = 0,
    ):
        self.storage, self.application = storage, application
        loaded = storage.load()
        self.core = Raft(id, config, loaded, Seeds(seed).at("election", server=id))
        application.load(loaded.snapshot.data)
        self.network = connect(self._received)
        self.network.on_lost = self.core.report_unreachable
        self.tick_s, self.snapshot_every, self.durable = tick_s, snapshot_every, durable
        self.malformed = 0
        self.failed: BaseException | None = None  # why it stopped
        self.stopped = asyncio.Event()
        self._proposed: list[tuple[bytes, Done | None]] = []
        self._waiting: deque[_Waiting] = deque()
        self._reads: dict[bytes, asyncio.Future] = {}
        self._ready_reads: list[tuple[int, asyncio.Future]] = []
        self._read_number = 0
        self._scheduled = False
        self._disk = ThreadPoolExecutor(1) if durable else None
        self._writing, self._snapshotting = 0, False
        self._ticker: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen, call the others, let time pass."""
        self._loop = asyncio.get_running_loop()
        await self.network.start()
        self._tick()

    async def close(self) -> None:
        """Stop at once; the disk keeps what it was promised to keep."""
        self.stopped.set()
        if self._ticker is not None:
            self._ticker.cancel()
        await self.network.close()
        if self._disk is not None:
            self._disk.shutdown(wait=True)
        self._fail_all()

    # ------------------------------------------------------------------ clients

    def propose(self, data: bytes, done: Done | None = None) -> None:
        """Have `data` ordered. done: called with True once it is committed and applied here, with
        False if this server cannot tell any more (it may still be ordered)."""
        self._proposed.append((data, done))
        self._soon()

    def reconfigure(self, change: ConfChange) -> None:
        """Ask for a new configuration; a leader takes one at a time, others none."""
        self.core.propose_conf_change(change)
        self._soon()

    async def ordered(self, data: bytes) -> bool:
        """`propose`, as something to wait for."""
        future = self._loop.create_future()
        self.propose(data, lambda ok: future.done() or future.set_result(ok))
        return await future

    async def linearizable(self) -> bool:
        """True once whatever was acknowledged before is applied here; False if it cannot be known."""
        self._read_number += 1
        context = self._read_number.to_bytes(8, "big") + self.core.id.to_bytes(4, "big")
        if not self.core.read_index(context):
            return False
        future = self._reads[context] = self._loop.create_future()
        self._soon()
        try:
            return await asyncio.wait_for(future, 20 * self.core.config.election_tick * self.tick_s)
        except TimeoutError:
            return False
        finally:
            self._reads.pop(context, None)

    # ------------------------------------------------------------------ events

    def _received(self, sender: int, frame: bytes) -> None:
        try:
            message = wire.from_bytes(frame)
        except DataError:
            self.malformed += 1
            return
        if message.sender != sender or message.to != self.core.id:
            self.malformed += 1  # a server speaks for itself only
            return
        self._guarded(self.core.step, message)
        self._soon()

    def _tick(self) -> None:
        self._guarded(self.core.tick)
        self._soon()
        if not self.stopped.is_set():
            self._ticker = self._loop.call_later(self.tick_s, self._tick)

    def _soon(self) -> None:
        if not self._scheduled and not self.stopped.is_set():
            self._scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Everything since the last time, at once."""
        self._scheduled = False
        if not self.stopped.is_set():
            self._guarded(self._work)

    def _guarded(self, action, *arguments) -> None:
        """A server that meets a broken rule or a failing disk stops, and says why."""
        try:
            action(*arguments)
        except Exception as error:
            self._stop(error)

    def _stop(self, error: BaseException) -> None:
        self.failed = self.failed or error
        self.stopped.set()
        self._fail_all()

    def _work(self) -> None:
        self._hand_over()
        while self.core.has_ready():
            ready = self.core.ready()
            self._send(ready.messages)
            for state in ready.read_states:
                if state.context in self._reads:
                    self._ready_reads.append((state.index, self._reads[state.context]))
            if self._disk is None:
                self.storage.save(ready.hard_state, ready.entries, ready.snapshot, False)
                self._persisted(ready)
            elif ready.must_sync or ready.hard_state or self._writing:
                self._writing += 1
                future = self._loop.run_in_executor(self._disk, self._write, ready)
                future.add_done_callback(lambda done, ready=ready: self._written(done, ready))
            else:
                self._persisted(ready)

    def _hand_over(self) -> None:
        """Proposals since the last time, as one batch."""
        if not self._proposed:
            return
        batch, self._proposed = self._proposed, []
        proposed = self.core.propose_many([data for data, _ in batch])
        done = tuple(done for _, done in batch)
        if proposed.status == "accepted":
            first = proposed.index - len(batch) + 1
            self._waiting.append(_Waiting(proposed.term, first, proposed.index, done))
        else:
            _tell(done, False)

    def _write(self, ready: Ready) -> None:
        self.storage.save(ready.hard_state, ready.entries, ready.snapshot, ready.must_sync)

    def _written(self, future: asyncio.Future, ready: Ready) -> None:
        self._writing -= 1
        if self.stopped.is_set():
            return
        error = future.exception()
        if error is not None:
            self._stop(error)
            return
        self._guarded(self._persisted, ready)
        self._soon()

    def _persisted(self, ready: Ready) -> None:
        self._send(ready.messages_after_persist)
        if ready.snapshot is not None:
            self.application.load(ready.snapshot.data)
        if ready.committed_entries:
            self.application.apply(ready.committed_entries)
        self.core.advance(ready.ack)
        if ready.committed_entries:
            self._settle(ready.committed_entries)
        self._answer_reads()
        self._maybe_snapshot()

    def _settle(self, entries: list[Entry]) -> None:
        """Tell those whose proposals are among the entries, or never will be."""
        waiting, last = self._waiting, entries[-1].index
        while waiting and waiting[0].first <= last:
            head = waiting.popleft()
            position = head.first - entries[0].index
            if position < 0 or entries[position].term != head.term:
                _tell(head.done, False)  # a snapshot, or another leader's entries, came instead
                continue
            count = min(head.last, last) - head.first + 1
            _tell(head.done[:count], True)
            if head.last > last:
                rest = _Waiting(head.term, last + 1, head.last, head.done[count:])
                waiting.appendleft(rest)
                return

    def _answer_reads(self) -> None:
        waiting, self._ready_reads = self._ready_reads, []
        for index, future in waiting:
            if index > self.core.log.applied:
                self._ready_reads.append((index, future))
            elif not future.done():
                future.set_result(True)

    def _maybe_snapshot(self) -> None:
        log, every = self.core.log, self.snapshot_every
        if not every or log.applied < log.snapshot.index + every or self._snapshotting:
            return
        if log.pending_snapshot is not None:
            return
        data = self.application.dump()
        if data is None:
            return
        snapshot = self.core.make_snapshot(data)
        if self._disk is None:
            self.storage.save(None, (), snapshot, True)
            self.core.compact(snapshot)
            return
        self._snapshotting = True  # behind the writes under way, which it covers
        future = self._loop.run_in_executor(self._disk, self._save_snapshot, snapshot)
        future.add_done_callback(lambda done: self._saved(done, snapshot))

    def _save_snapshot(self, snapshot: Snapshot) -> None:
        self.storage.save(None, (), snapshot, True)

    def _saved(self, future: asyncio.Future, snapshot: Snapshot) -> None:
        self._snapshotting = False
        if not self.stopped.is_set():
            if future.exception() is not None:
                self._stop(future.exception())
            elif snapshot.index > self.core.log.snapshot.index:  # else a newer one came by wire
                self._guarded(self.core.compact, snapshot)

    def _send(self, messages: list[Message]) -> None:
        for message in messages:
            if message.to in self.network.addresses:
                frame = wire.to_bytes(message)
                self.network.send(message.to, frame, message.kind in HEARTBEATS)

    def _fail_all(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for head in waiting:
            _tell(head.done, False)
        for _, done in self._proposed:
            _tell((done,), False)
        self._proposed = []
        for future in self._reads.values():
            if not future.done():
                future.set_result(False)


def _tell(callbacks: tuple[Done | None, ...], ok: bool) -> None:
    for done in callbacks:
        if done is not None:
            done(ok)
