"""Seat: one server of a chain at work on a real network, in a thread of its own.

What `Group` plays for all servers of a simulation, a seat plays for one: its order, its timers, the
models it fetches and hands out. A server that missed a height asks the others for the block and
for the entries that led to it, which it replays before it believes them.

Paper: none; our derivation.
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from consensus.actions import Action, Fetch, Propose, Tell, Wait
from consensus.archive import Archive, Record
from consensus.audit import replay
from consensus.chain.store import ModelStore
from consensus.costs import Ledger, standing
from consensus.encoding import pack, unpack
from consensus.group import AGAIN_MS, exiled, phase_of
from consensus.judge import Judge
from consensus.live_order import LiveOrder, Place
from consensus.network.hello import Credentials
from consensus.network.processes import Limits, ProcessNetwork
from consensus.ordering import Ordering
from consensus.pofel import effects as fx
from consensus.pofel.messages import Entry, Kind
from consensus.server import Server
from fedalign.core.errors import DataError, FedalignError, IntegrityError

ORDER, GET, GIVE, FINAL, WANT, BLOCK, AT, FROM = range(8)
SHAPES = {ORDER: (int, bytes), GET: (bytes,), GIVE: (bytes, bytes), FINAL: (bytes,), WANT: (int,),
          BLOCK: (int, bytes), AT: (int,), FROM: (int, bytes)}  # fmt: skip
LONGEST = Limits(frame_bytes=1 << 30, queue_bytes=1 << 30)
EARLY = 4096  # frames of the next height kept until it begins here
NOBODY = -1
Tls = tuple[ssl.SSLContext, ssl.SSLContext]
START_S = 30.0


class Seat:
    """Server `server` of a chain. addresses: of all servers, by position. folder: blocks, models
    and the log of the order; what is there of an earlier process is gone on with. tls: contexts
    (server, client), or None."""

    def __init__(
        self,
        server: Server,
        ordering: Ordering,
        addresses: Mapping[int, str],
        folder: Path,
        tls: Tls | None = None,
    ):
        self.server, self._ordering, self._folder = server, ordering, folder
        settings, self._me = server.machine.settings, server.index
        members = dict(enumerate(settings.members))
        mine = Credentials(self._me, server.key, settings.chain_id, members)
        self._network = ProcessNetwork(mine, addresses, self._received, LONGEST, tls)
        self.archive, self.models = Archive(folder), ModelStore(folder / "models")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._order: LiveOrder | None = None
        self._early: deque[tuple[int, int, bytes]] = deque(maxlen=EARLY)
        self._blocks: dict[int, Future[Record]] = {}  # heights that were asked for
        self._heights: dict[int, int] = {}  # where the others are
        self._starts: dict[int, tuple[int, bytes]] = {}  # and what model they begin a height with
        self._fresh()

    # ------------------------------------------------------------ from the round's thread

    def open(self) -> None:
        """Listen, call the others, take part in the order of the next height. Raises OSError."""
        self._thread.start()
        self._call(self._network.start())
        self._call(self._next())
        self._loop.call_soon_threadsafe(self._again)

    def begin(
        self, start: Callable[[Server], list[Action]], ledger: Ledger, model: bytes = b""
    ) -> Future[None]:
        """The server has its proposal; the answer comes with the final block. model: digest of what
        the round began with."""
        self._ledger, self._done, self._model = ledger, Future(), model
        self._loop.call_soon_threadsafe(self._guarded, self._begin, start)
        return self._done

    def advance(self) -> None:
        """The block is on disk: the next height begins."""
        self._call(self._next())

    def give_up(self) -> None:
        """Leave the height that led to no block."""
        self._call(self._leave())

    def sought(self, height: int, wait_s: float) -> Record | None:
        """The record of a height that the others may have finished; None if nobody hands it out
        in time."""
        if height in self.archive.heights():
            return self.archive.read(height)
        answer = self._blocks.setdefault(height, Future())
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            self._loop.call_soon_threadsafe(self._everybody, WANT, height)
            with suppress(TimeoutError):
                return answer.result(0.3)
        return None

    def all_beyond(self, height: int) -> bool:
        """Whether every server has said that this height is over for it."""
        others = set(range(len(self.server.machine.settings.members))) - {self._me}
        return all(self._heights.get(peer, 0) > height for peer in others)

    def forget(self, height: int) -> None:
        """Drop the models of all blocks up to this one."""
        later = [h for h in self.archive.heights() if h > height]
        kept = {root for h in later for root in named(self.archive.read(h).stream)}
        self.models.keep(kept)

    def unlike(self) -> list[int]:
        """Servers that begin this height with another model than this one."""
        mine = (self.height, self._model)
        return sorted(i for i, (height, model) in self._starts.items()
                      if height == mine[0] and model != mine[1])  # fmt: skip

    def here(self) -> list[int]:
        """Servers that can be reached now, this one included."""
        return sorted([self._me, *self._network.connected()])

    def close(self) -> None:
        """Leave the network."""
        with suppress(TimeoutError):
            self._call(self._leave())
            self._call(self._network.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _call(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(START_S)

    # ------------------------------------------------------------ heights

    def _fresh(self) -> None:
        self.height = self.server.machine.state.height + 1
        self._parent = self.server.machine.snapshot()
        self._begun, self._ordered, self._finals = False, [], []
        self._ledger, self._done, self._model = Ledger(standing), Future(), b""
        self._since = self._asked = time.monotonic()
        self.late = False  # whether the block came from those who had it
        self.mute = False  # a height that is over elsewhere: listen, say nothing

    async def _leave(self) -> None:
        order, self._order, self._begun = self._order, None, False
        if order is not None:
            await order.close()

    async def _next(self) -> None:
        await self._leave()
        self._fresh()
        server, settings = self.server, self.server.machine.settings
        self._judge = Judge(server, lambda: time.monotonic() * 1000)
        logs = self._folder / "order"
        for old in logs.glob("*"):
            if int(old.name) < self.height:
                shutil.rmtree(old, ignore_errors=True)
        place = Place(
            self._me, server.key, settings.members, exiled(server), settings.chain_id,
            self.height, logs / f"{self.height:06d}", self._send_order, self._take, self._judge,
        )  # fmt: skip
        self._order = LiveOrder(self._ordering, place)
        await self._order.start()
        early, self._early = list(self._early), deque(maxlen=EARLY)
        for frame in early:
            self._of_order(*frame)
        self._everybody(AT, self.height)

    # ------------------------------------------------------------ what comes in

    def _received(self, sender: int, frame: bytes) -> None:
        handlers = {ORDER: self._of_order, GET: self._serve, GIVE: self._given,
                    FINAL: self._signed, WANT: self._wanted, BLOCK: self._block,
                    AT: self._at, FROM: self._from}  # fmt: skip
        try:
            kind, *rest = unpack(frame)
            if tuple(map(type, rest)) != SHAPES[kind]:
                raise DataError(f"A message of kind {kind} has another content.")
            handlers[kind](sender, *rest)
        except (DataError, KeyError):
            self._network.counters["malformed"] += 1
        except Exception as error:
            self._failed(error)

    def _of_order(self, sender: int, height: int, frame: bytes) -> None:
        if height == self.height and self._order is not None:
            with self._ledger.working("order"):
                self._order.received(sender, frame)
            self._act(())
        elif height > self.height or self._order is None:
            self._early.append((sender, height, frame))

    def _take(self, data: bytes) -> None:
        """The order's next entry; those from before this server's own beginning wait for it."""
        if not self._begun:
            self._ordered.append(data)
            return
        try:
            entry = Entry.decode(data)
        except DataError:  # no entry for anybody
            return
        with self._ledger.working(phase_of(self.server)):
            actions = self.server.ordered(entry)
        self._act(actions)

    def _signed(self, sender: int, final: bytes) -> None:
        if not self._begun:
            self._finals.append((sender, final))
            return
        with self._ledger.working("final"):
            self.server.final(Entry.decode(final))
        self._settle()

    def _given(self, sender: int, root: bytes, data: bytes) -> None:
        with self._ledger.working(phase_of(self.server)):
            actions = self.server.fetched(root, data)
        self._act(actions)

    def _serve(self, sender: int, root: bytes) -> None:
        server = self.server
        if server.fault is not None and not server.fault.serves(sender):
            return
        data = server.store.data(root) if root in server.store else self._kept(root)
        if data is not None:
            self._send(sender, GIVE, root, data, model=True)

    def _kept(self, root: bytes) -> bytes | None:
        try:
            return self.models.get(root)
        except (DataError, IntegrityError):
            return None

    def _at(self, sender: int, height: int) -> None:
        self._heights[sender] = height

    def _from(self, sender: int, height: int, model: bytes) -> None:
        self._starts[sender] = height, model

    def _wanted(self, sender: int, height: int) -> None:
        if height in self.archive.heights():
            self._send(sender, BLOCK, height, self.archive.read(height).encode())

    def _block(self, sender: int, height: int, data: bytes) -> None:
        """Somebody has finished a height: what led there is replayed before it counts."""
        waits = height in self._blocks and not self._blocks[height].done()
        lacks = self._begun and height == self.height and not self._done.done()
        if height != self.height or not (waits or lacks):
            return
        record, machine = Record.decode(data), self.server.machine
        try:
            replay(type(machine)(machine.settings), self._parent, record, height)
        except (FedalignError, LookupError, TypeError, ValueError):
            self._network.counters["forged blocks"] += 1
            return
        if waits:
            self._blocks[height].set_result(record)
        if lacks:
            self._adopt(record)

    def _adopt(self, record: Record) -> None:
        """Follow the entries that led to a block; who has applied some of them skips those."""
        self.late = True
        for entry in record.stream:
            self._act(self.server.ordered(entry))
        for final in record.seal.finals:
            self.server.final(final)
        self._settle()

    def _begin(self, start: Callable[[Server], list[Action]]) -> None:
        self._begun = True
        self._since = time.monotonic()
        self.server.leader = self._order.leader
        with self._ledger.working("commit"):
            actions = start(self.server)
        self._everybody(FROM, self.height, self._model)
        self._act(actions)
        for data in self._ordered:
            self._take(data)
        for sender, final in self._finals:
            self._signed(sender, final)
        known = self._blocks.get(self.height)
        if self.height in self.archive.heights():
            self._adopt(self.archive.read(self.height))
        elif known is not None and known.done():
            self._adopt(known.result())

    # ------------------------------------------------------------ time

    def _again(self) -> None:
        self._loop.call_later(AGAIN_MS / 1000, self._again)
        now = time.monotonic()
        if self._order is None or not self._begun or self._done.done():
            if now - self._asked > 1.0:
                self._asked = now
                self._everybody(AT, self.height)
            return
        if self._order.failed is not None:
            self._failed(self._order.failed)
            return
        self._guarded(lambda: self._act(self.server.again()))
        if now - max(self._since, self._asked) > 1.0:
            self._asked = now
            self._everybody(WANT, self.height)
            self._everybody(FROM, self.height, self._model)

    def _timeout(self, height: int, timer: fx.SetTimer) -> None:
        if height == self.height and self._begun:
            self._guarded(lambda: self._act(self.server.timeout(timer)))

    def _guarded(self, action: Callable[..., None], *arguments: Any) -> None:
        """What goes wrong here is told to whoever waits for the block."""
        try:
            action(*arguments)
        except Exception as error:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        if not self._done.done():
            self._done.set_exception(error)

    # ------------------------------------------------------------ what goes out

    def _act(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Fetch):
                if (data := self._kept(action.root)) is not None:
                    self._loop.call_soon(self._given, self._me, action.root, data)
                elif action.source != self._me:
                    self._send(action.source, GET, action.root)
            elif isinstance(action, Wait):
                self._judge.started(action.timer)
                after_s = action.timer.after_ms / 1000
                self._loop.call_later(after_s, self._timeout, self.height, action.timer)
            elif isinstance(action, Tell) and not self.mute:
                self._everybody(FINAL, action.final.encode())
            elif isinstance(action, Propose) and not self.mute and self._order is not None:
                self._order.propose(action.entry.encode())
        leader = NOBODY if self._order is None else self._order.leader
        if self._begun and leader not in (NOBODY, self.server.leader):
            self._act(self.server.led_by(leader))
        self._settle()

    def _settle(self) -> None:
        now = time.monotonic()
        self._ledger.lasted(phase_of(self.server), now - self._since)
        self._since = now
        if self._begun and not self._done.done() and self.server.done():
            self._keep_models()
            self._done.set_result(None)

    def _keep_models(self) -> None:
        """Whoever comes too late will ask for what the block was made of."""
        store = self.server.store
        for root in named(self.server.stream):
            if root in store:
                self.models.put(store.data(root))

    def _everybody(self, kind: int, *content: Any) -> None:
        for peer in range(len(self.server.machine.settings.members)):
            if peer != self._me:
                self._send(peer, kind, *content)

    def _send_order(self, to: int, frame: bytes, droppable: bool) -> None:
        self._send(to, ORDER, self.height, frame, droppable=droppable)

    def _send(
        self, to: int, kind: int, *content: Any, droppable: bool = False, model: bool = False
    ) -> None:
        frame = pack((kind, *content))
        phase = "final" if kind == FINAL else phase_of(self.server)
        self._ledger.sent(phase if self._begun else "election", len(frame), model)
        self._network.send(to, frame, droppable)


def named(stream: Sequence[Entry]) -> set[bytes]:
    """Roots of the models that a block's entries name."""
    found = set()
    for entry in stream:
        if entry.kind is Kind.REVEAL:
            found.add(entry.content.model_root)
        elif entry.kind is Kind.COMMIT:  # where nobody votes, it names the model openly
            found.add(entry.content.commitment)
    return found
