"""Processes: the network between real servers, over TCP or unix sockets.

What `SimulatedNetwork.send` is in a simulation, `ProcessNetwork.send` is here: it never blocks,
may lose, and promises nothing. Each server dials every other for what it wants to say; frames
are length:u32be | bytes, after a hello that proves both keys. Queues are bounded: what a peer
does not take in time is dropped, oldest first, heartbeats before anything else.

Paper: none; our derivation.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from consensus.network.hello import Credentials, Dialer, HelloError, Listener
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds

HELLO_BYTES = 1024  # no frame of a hello is longer
Receive = Callable[[int, bytes], None]


@dataclass(frozen=True)
class Limits:
    """frame_bytes: longest frame taken. queue_bytes: waiting for one peer before some is dropped.
    hello_s: a caller that has not proved itself by then is cut off. callers: at once, unproved.
    backoff_s: (shortest, longest) wait before calling again, doubled after every failure.
    """

    frame_bytes: int = 64 << 20
    queue_bytes: int = 64 << 20
    hello_s: float = 5.0
    callers: int = 64
    backoff_s: tuple[float, float] = (0.02, 1.0)


class ProcessNetwork:
    """The links of one server.

    mine: its credentials. addresses: of all servers, by id: "unix:PATH" or "tcp:HOST:PORT".
    receive: called with (sender, bytes) for everything that arrives. tls: contexts (server,
    client) or None. counters: frames and bytes by what became of them.
    """

    def __init__(
        self,
        mine: Credentials,
        addresses: Mapping[int, str],
        receive: Receive,
        limits: Limits = Limits(),
        tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    ):
        self.mine, self.receive, self.limits, self.tls = mine, receive, limits, tls
        self.addresses = {id: _parsed(address) for id, address in addresses.items()}
        if mine.id not in self.addresses:
            raise ConfigError(f"Server {mine.id} has no address; known: {sorted(addresses)}.")
        self.counters: Counter[str] = Counter()
        self.callers: set[_Incoming] = set()
        self.on_lost: Callable[[int], None] = lambda peer: None
        self._peers = {id: _Peer(self, id) for id in self.addresses if id != mine.id}
        self._server: asyncio.Server | None = None
        self.closed = False

    async def start(self) -> None:
        """Listen, and begin to call the others."""
        loop, where = asyncio.get_running_loop(), self.addresses[self.mine.id]
        context = self.tls[0] if self.tls else None

        def incoming() -> _Incoming:
            return _Incoming(self)

        if isinstance(where, str):
            self._server = await loop.create_unix_server(incoming, where, ssl=context)
        else:
            self._server = await loop.create_server(incoming, *where, ssl=context)
        for peer in self._peers.values():
            peer.task = loop.create_task(peer.keep_connected())

    def send(self, to: int, frame: bytes, droppable: bool = False) -> None:
        """Put a frame on its way; droppable ones go first when a queue is full."""
        self._peers[to].send(frame, droppable)

    def connected(self) -> list[int]:
        """Peers that can be reached now."""
        return [id for id, peer in self._peers.items() if peer.open is not None]

    async def close(self) -> None:
        """Cut all links."""
        self.closed = True
        for peer in self._peers.values():
            if peer.task is not None:
                peer.task.cancel()
            if peer.open is not None:
                peer.open.transport.abort()
        for caller in list(self.callers):
            caller.transport.abort()
        if self._server is not None:
            self._server.close()
        await asyncio.gather(
            *(p.task for p in self._peers.values() if p.task), return_exceptions=True
        )


class _Frames(asyncio.Protocol):
    """A connection cut into frames."""

    def __init__(self, network: ProcessNetwork):
        self.network, self.transport = network, None
        self._buffer = bytearray()
        self.most = HELLO_BYTES

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        begin, size = 0, len(buffer)
        while size - begin >= 4:
            length = int.from_bytes(buffer[begin : begin + 4], "big")
            if length > self.most:
                self.refuse("oversized")
                return
            if size - begin - 4 < length:
                break
            begin += 4 + length
            self.frame(bytes(buffer[begin - length : begin]))
            if self.transport is None or self.transport.is_closing():
                return
        if begin:
            del buffer[:begin]

    def write(self, *frames: bytes) -> None:
        """Send frames at once."""
        parts = []
        for frame in frames:
            parts += (len(frame).to_bytes(4, "big"), frame)
        self.transport.write(b"".join(parts))

    def refuse(self, reason: str) -> None:
        """Cut the connection and count why."""
        self.network.counters[f"refused {reason}"] += 1
        self._buffer.clear()
        self.transport.abort()

    def frame(self, frame: bytes) -> None:
        """A whole frame arrived."""


class _Incoming(_Frames):
    """Somebody called: a hello, then what they have to say."""

    def __init__(self, network: ProcessNetwork):
        super().__init__(network)
        self._hello = Listener(network.mine)
        self._timer = None

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        unproved = sum(not caller._hello.done for caller in self.network.callers)
        self.network.callers.add(self)
        if unproved >= self.network.limits.callers:
            self.refuse("crowd")
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.network.limits.hello_s, self.refuse, "silent")

    def connection_lost(self, error) -> None:
        self.network.callers.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def frame(self, frame: bytes) -> None:
        if self._hello.done:
            self.network.counters["received"] += 1
            self.network.counters["received bytes"] += len(frame)
            self.network.receive(self._hello.peer, frame)
            return
        try:
            answer = self._hello.take(frame)
        except HelloError as error:
            self.refuse(error.reason)
            return
        if answer is not None:
            self.write(answer)
        if self._hello.done:
            self._timer.cancel()
            self.most = self.network.limits.frame_bytes


class _Outgoing(_Frames):
    """A call to a peer: a hello, then `ready` is set."""

    def __init__(self, network: ProcessNetwork, peer: _Peer):
        super().__init__(network)
        self._hello, self._peer = Dialer(network.mine, peer.id), peer
        loop = asyncio.get_running_loop()
        self.ready, self.closed = loop.create_future(), loop.create_future()

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=self.network.limits.queue_bytes)
        self.write(self._hello.first())

    def connection_lost(self, error) -> None:
        for future in (self.ready, self.closed):
            if not future.done():
                future.set_result(False)

    def frame(self, frame: bytes) -> None:
        if self._hello.done:
            self.refuse("talkative")  # listeners only listen
            return
        try:
            self.write(self._hello.take(frame))
        except HelloError as error:
            self.refuse(error.reason)
            return
        if not self.ready.done():
            self.ready.set_result(True)

    def pause_writing(self) -> None:
        self._peer.paused = True

    def resume_writing(self) -> None:
        self._peer.paused = False
        self._peer.flush()


class _Peer:
    """What waits for one other server, and the connection that takes it there."""

    def __init__(self, network: ProcessNetwork, id: int):
        self.network, self.id = network, id
        self.open: _Outgoing | None = None
        self.paused = False
        self.task: asyncio.Task | None = None
        self._queue: deque[tuple[bytes, bool]] = deque()
        self._bytes = 0
        self._flushing = False

    def send(self, frame: bytes, droppable: bool) -> None:
        self._queue.append((frame, droppable))
        self._bytes += len(frame)
        while self._bytes > self.network.limits.queue_bytes:
            self._drop()
        if self.open is not None and not self._flushing and not self.paused:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def _drop(self) -> None:
        """The oldest frame that may go; any, if none may."""
        at = next((i for i, (_, droppable) in enumerate(self._queue) if droppable), 0)
        self._bytes -= len(self._queue[at][0])
        del self._queue[at]
        self.network.counters["dropped"] += 1

    def flush(self) -> None:
        """Hand everything that waits to the connection."""
        self._flushing = False
        if self.open is None or self.paused or not self._queue:
            return
        frames = [frame for frame, _ in self._queue]
        self._queue.clear()
        self.network.counters["sent"] += len(frames)
        self.network.counters["sent bytes"] += self._bytes
        self._bytes = 0
        self.open.write(*frames)

    async def keep_connected(self) -> None:
        """Call, and call again when the line breaks; waits grow and are jittered."""
        shortest, longest = self.network.limits.backoff_s
        rng = Seeds(self.network.mine.id).at("backoff", peer=self.id)
        wait = shortest
        while not self.network.closed:
            line = await self._call()
            if line is not None and self.network.closed:
                line.transport.abort()
            elif line is not None:
                self.open, self.paused, wait = line, False, shortest
                self.flush()
                await line.closed
                self.open = None
                self.network.on_lost(self.id)
            await asyncio.sleep(wait * (0.5 + float(rng.random())))
            wait = min(2 * wait, longest)

    async def _call(self) -> _Outgoing | None:
        loop, where = asyncio.get_running_loop(), self.network.addresses[self.id]
        tls = {}
        if self.network.tls:
            tls = {"ssl": self.network.tls[1], "server_hostname": f"server-{self.id}"}

        def outgoing() -> _Outgoing:
            return _Outgoing(self.network, self)

        try:
            if isinstance(where, str):
                _, line = await loop.create_unix_connection(outgoing, where, **tls)
            else:
                _, line = await loop.create_connection(outgoing, *where, **tls)
            if await asyncio.wait_for(line.ready, self.network.limits.hello_s):
                return line
        except (OSError, TimeoutError):
            self.network.counters["failed calls"] += 1
        return None


def _parsed(address: str) -> str | tuple[str, int]:
    """unix:PATH -> PATH, unix:@NAME -> Linux's name without a file, tcp:HOST:PORT -> (HOST, PORT)."""
    kind, _, rest = address.partition(":")
    host, _, port = rest.rpartition(":")
    if kind == "unix" and rest:
        return "\0" + rest[1:] if rest[0] == "@" else rest
    if kind == "tcp" and host and port.isdigit() and 0 < int(port) < 65536:
        return host, int(port)
    raise ConfigError(f"An address is unix:PATH or tcp:HOST:PORT, got {address!r}.")
