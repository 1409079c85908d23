"""Replica: what the baseline cores share: an outbox, a pool of proposals, delivery in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from consensus.orderer import Proposed
from consensus.work import sha256

ALL = -1  # every other server
Batch = tuple[bytes, ...]


class Message(NamedTuple):
    """body: a tuple that begins with its kind. size: bytes on the wire besides the header."""

    to: int
    body: tuple
    size: int


class Ready(NamedTuple):
    """What the driver must send, and then apply; nothing has to be persisted."""

    messages: list[Message]
    committed: list[bytes]
    messages_after_persist: tuple = ()
    ack: None = None


class Replica:
    """id: 0 .. servers - 1."""

    def __init__(self, id: int, servers: int):
        self.id, self.servers = id, servers
        self.pool: dict[bytes, bytes] = {}  # what waits to be ordered, by digest
        self._messages: list[Message] = []
        self._committed: list[bytes] = []
        self._ordered: set[bytes] = set()

    @property
    def quorum(self) -> int:
        """n - f with f = floor((n - 1) / 3): two of them share an honest server."""
        return self.servers - (self.servers - 1) // 3

    def propose(self, data: bytes) -> Proposed:
        """Ask for `data` to be ordered."""
        return self.propose_many((data,))

    def propose_many(self, batch: Sequence[bytes]) -> Proposed:
        """Ask for several entries at once."""
        self.remember(batch)
        self.wake()
        return Proposed("accepted", "", self.leader)

    def remember(self, batch: Sequence[bytes]) -> None:
        """Proposals of one's own that went to the leader: a reason to watch it."""
        for data in batch:
            name = sha256(data)
            if name not in self._ordered:
                self.pool[name] = data

    def step(self, sender: int, body: tuple) -> None:
        """A message of another server arrived: its kind names the method that takes it."""
        getattr(self, f"on_{body[0]}")(sender, *body[1:])

    def tick(self) -> None:
        """One unit of time passed."""

    def wake(self) -> None:
        """There may be something to order."""

    def has_ready(self) -> bool:
        """Is there anything to send or apply?"""
        return bool(self._messages or self._committed)

    def ready(self) -> Ready:
        """What to send, then to apply."""
        ready = Ready(self._messages, self._committed)
        self._messages, self._committed = [], []
        return ready

    def advance(self, ack: Any) -> None:
        """Nothing is waited for."""

    @property
    def leader(self) -> int:
        """Whom this server takes for the leader."""
        return 0

    def send(self, to: int, *body: Any, size: int) -> None:
        self._messages.append(Message(to, body, size))

    def deliver(self, batch: Batch) -> None:
        """The next entries of the order; what was there before is not applied twice."""
        for data in batch:
            name = sha256(data)
            self.pool.pop(name, None)
            if name not in self._ordered:
                self._ordered.add(name)
                self._committed.append(data)


class Gossiping(Replica):
    """Tells everybody what is to be ordered, since anybody may be the next to write."""

    def propose_many(self, batch: Sequence[bytes]) -> Proposed:
        fresh = self._keep(batch)
        if fresh:
            self.send(ALL, "items", fresh, size=size_of(fresh))
        return Proposed("accepted", "", self.id)

    def on_items(self, sender: int, batch: Batch) -> None:
        """Somebody's proposals."""
        self._keep(batch)

    def _keep(self, batch: Sequence[bytes]) -> Batch:
        fresh = {sha256(data): data for data in batch}
        fresh = {k: v for k, v in fresh.items() if k not in self._ordered and k not in self.pool}
        self.pool |= fresh
        return tuple(fresh.values())


def digest_of(batch: Batch, *more: int) -> bytes:
    """32 bytes over a batch and numbers."""
    numbers = b"".join(n.to_bytes(8, "big") for n in more)
    return sha256(numbers + b"".join(len(data).to_bytes(4, "big") + data for data in batch))


def size_of(batch: Batch) -> int:
    """Bytes of a batch."""
    return sum(map(len, batch))
