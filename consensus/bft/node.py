"""BftNode: a BFT server in a real process: core, gate, journal, network and application.

What arrives together is handled together: one Ready, one write, one forcing to disk.

Paper: Buchman, Kwon and Milosevic, arXiv 1807.04938; the driver is our derivation.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

from consensus.bft import wire
from consensus.bft.config import BftConfig
from consensus.bft.core import Bft, accept_all, forget_all
from consensus.bft.journal_log import JournalLog
from consensus.bft.messages import ALL, Batch, Decision, Equivocation, Items, Message, Ready, Status
from consensus.bft.signing import Gate, Signer
from consensus.network.processes import ProcessNetwork
from fedalign.core.errors import DataError

Done = Callable[[bool], None]


class BftNode:
    """One server.

    journal: its disk. apply: called with every decision, after a restart with all that the
    journal still holds (config.keep_heights): it skips what it has. It may answer who votes from
    the next height on. connect: makes its network, over which servers without a vote hear too.
    tick_s: length of a tick. checkpoint_every: records between journal checkpoints (>= 1). valid:
    what may be decided now. admits: what may ever be; nothing else of what others want ordered is
    taken in.
    earlier: decisions that the journal holds no more, for servers that are far behind.
    """

    def __init__(
        self,
        id: int,
        members: Sequence[int],
        config: BftConfig,
        journal: JournalLog,
        apply: Callable[[Decision], Sequence[int] | None],
        connect: Callable[[Callable[[int, bytes], None]], ProcessNetwork],
        sign: Signer,
        gate: Gate,
        tick_s: float = 0.02,
        checkpoint_every: int = 20_000,
        valid: Callable[[int, Batch], bool] = accept_all,
        admits: Callable[[bytes], bool] | None = None,
        earlier: Callable[[int], Decision | None] = forget_all,
    ):
        records = journal.load()
        self.journal, self.apply, self.gate, self.tick_s = journal, apply, gate, tick_s
        self._admits = admits
        self.core = Bft(id, members, config, records, sign, valid, earlier)
        self.network = connect(self._received)
        self.evidence: list[Equivocation] = []
        self.refused: Counter[str] = gate.refused
        self.failed: BaseException | None = None
        self.stopped = asyncio.Event()
        self._every, self._records = checkpoint_every, len(records)
        self._waiting: dict[bytes, list[Done]] = {}
        self._disk = ThreadPoolExecutor(1)
        self._writing, self._scheduled = 0, False
        self._ticker: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen, call the others, let time pass."""
        self._loop = asyncio.get_running_loop()
        await self.network.start()
        self._tick()

    async def close(self) -> None:
        """Stop at once; the disk keeps what it was promised to keep."""
        self._stop(None)
        if self._ticker is not None:
            self._ticker.cancel()
        await self.network.close()
        self._disk.shutdown(wait=True)

    def propose(self, data: bytes) -> None:
        """Have `data` ordered; what is refused, or waits already, needs nothing."""
        self.core.propose(data)
        self._soon()

    async def ordered(self, data: bytes) -> bool:
        """Have `data` ordered; True once it is decided and applied here, False if it is refused
        or this server stops before."""
        digest = sha256(data).digest()
        if self.core.propose(data).status == "dropped" and not self.core.waits(digest):
            return False
        future = self._loop.create_future()
        known = self._waiting.setdefault(digest, [])
        known.append(lambda ok: future.done() or future.set_result(ok))
        self._soon()
        return await future

    # ------------------------------------------------------------------ events

    def _received(self, sender: int, frame: bytes) -> None:
        try:
            body = self.gate.admit(wire.from_bytes(frame))
        except DataError:
            self.refused["malformed"] += 1
            return
        if isinstance(body, Items) and self._admits is not None:
            good = tuple(filter(self._admits, body.data))
            self.refused["items"] += len(body.data) - len(good)
            body = Items(good)
        if body is not None:
            self._guarded(self.core.step, Message(self.core.id, body, sender))
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
        self._scheduled = False
        if not self.stopped.is_set():
            self._guarded(self._work)

    def _guarded(self, action, *arguments) -> None:
        """A server that meets a broken rule or a failing disk stops, and says why."""
        try:
            action(*arguments)
        except Exception as error:
            self._stop(error)

    def _stop(self, error: BaseException | None) -> None:
        self.failed = self.failed or error
        self.stopped.set()
        waiting, self._waiting = self._waiting, {}
        for callbacks in waiting.values():
            for done in callbacks:
                done(False)

    def _work(self) -> None:
        while self.core.has_ready():
            ready = self.core.ready()
            self.evidence += ready.evidence
            self._send(ready.messages)
            if ready.must_sync or self._writing:
                self._writing += 1
                future = self._loop.run_in_executor(self._disk, self._write, ready)
                future.add_done_callback(lambda done, ready=ready: self._written(done, ready))
            else:
                self._persisted(ready)

    def _write(self, ready: Ready) -> None:
        if ready.records:
            self.journal.append(ready.records)
            self.journal.sync()

    def _written(self, future: asyncio.Future, ready: Ready) -> None:
        self._writing -= 1
        self._records += len(ready.records)
        if self.stopped.is_set():
            return
        if future.exception() is not None:
            self._stop(future.exception())
            return
        self._guarded(self._persisted, ready)
        self._soon()

    def _persisted(self, ready: Ready) -> None:
        self._send(ready.messages_after_persist)
        voters = None
        for decision in ready.committed_entries:
            voters = self.apply(decision) or voters
            for item in decision.batch:
                for done in self._waiting.pop(sha256(item).digest(), ()):
                    done(True)
        if ready.committed_entries:
            changed = voters is not None and tuple(voters) != self.core.members
            self.core.advance(ready.ack._replace(members=tuple(voters) if changed else None))
        if self._records > self._every and not self._writing and not self.core.has_ready():
            records = self.core.checkpoint()
            self.journal.replace(records)
            self._records = len(records)

    def _send(self, messages: list[Message]) -> None:
        for message in messages:
            frame = wire.to_bytes(message.body)
            droppable = isinstance(message.body, Status)
            for to in self.network.addresses if message.to == ALL else (message.to,):
                if to != self.core.id:
                    self.network.send(to, frame, droppable)
