"""LiveOrder: one height's order between real servers, with its write-ahead log.

Every height has an order of its own, as in a simulation, so that whoever has the block needs
nothing else of it. What is signed in one is bound to its height.

Paper: none; our derivation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from consensus.bft.journal_log import JournalLog
from consensus.bft.messages import Decision
from consensus.bft.node import BftNode
from consensus.bft.signing import Gate, Signer
from consensus.disk import FolderDisk
from consensus.identity import Key
from consensus.judge import Judge
from consensus.ordering import BftOrdering, Ordering, RaftOrdering
from consensus.raft.messages import ConfState, EntryKind
from consensus.raft.node import RaftNode
from consensus.wal import WriteAheadLog

Receive = Callable[[int, bytes], None]


@dataclass(frozen=True)
class Place:
    """A server's place in the order of one height. id: its position. members: node ids of all.
    out: positions that are exiled. folder: of its log. send: (to, frame, droppable). apply: takes
    the next entry. judge: what it lets pass (Byzantine orders only)."""

    id: int
    key: Key
    members: tuple[bytes, ...]
    out: Collection[int]
    chain_id: int
    height: int
    folder: Path
    send: Callable[[int, bytes, bool], None]
    apply: Callable[[bytes], None]
    judge: Judge

    @property
    def bound(self) -> int:
        """A number that no other height of any chain has: what its signatures are made for."""
        name = f"fedalign/order/v1|{self.chain_id}|{self.height}"
        return int.from_bytes(sha256(name.encode()).digest()[:8], "big")


class LiveOrder:
    """Raft or BFT among the members. ordering: which one, and its knobs."""

    def __init__(self, ordering: Ordering, place: Place):
        self._ordering, self._place = ordering, place
        self._channel: _Channel | None = None
        disk, tick_s = FolderDisk(place.folder), ordering.tick_ms / 1000
        voters = tuple(i for i in range(len(place.members)) if i not in place.out)
        if isinstance(ordering, RaftOrdering):
            conf = ConfState(voters, learners=tuple(sorted(place.out)))
            log = WriteAheadLog(disk, conf, segment_bytes=1 << 20, reserve=False)
            self._node: RaftNode | BftNode = RaftNode(
                place.id, ordering.config, log, _Entries(place.apply), self._connect, tick_s,
                snapshot_every=0, seed=place.bound,
            )  # fmt: skip
        else:
            assert isinstance(ordering, BftOrdering)  # checked with the config
            self._node = BftNode(
                place.id, voters, ordering.config, JournalLog(disk, 1 << 20, reserve=False),
                self._decided, self._connect, Signer(place.key, place.bound),
                Gate(list(place.members), place.bound), tick_s, valid=place.judge,
                admits=place.judge.admits,
            )  # fmt: skip

    async def start(self) -> None:
        """Take part; server 0 stands for election at once where somebody has to lead."""
        await self._node.start()
        if self._place.id == min(set(range(len(self._place.members))) - set(self._place.out)):
            self._ordering.start(self._node.core)

    async def close(self) -> None:
        """Leave; the log stays on disk."""
        await self._node.close()

    def received(self, sender: int, frame: bytes) -> None:
        """A message of another server's order."""
        self._channel.receive(sender, frame)

    def propose(self, data: bytes) -> None:
        """Have an entry ordered; where nobody leads it is lost, and said again."""
        self._node.propose(data)

    @property
    def leader(self) -> int:
        """Whom this server takes for the leader, -1 for nobody."""
        return self._ordering.leader(self._node.core)

    @property
    def failed(self) -> BaseException | None:
        """Why it stopped."""
        return self._node.failed

    def _decided(self, decision: Decision) -> None:
        for data in decision.batch:
            self._place.apply(data)

    def _connect(self, receive: Receive) -> _Channel:
        members = range(len(self._place.members))
        self._channel = _Channel(receive, self._place.send, members)
        return self._channel


class _Channel:
    """The part of a server's network that one height's order uses."""

    def __init__(self, receive: Receive, send: Callable[[int, bytes, bool], None], members: range):
        self.receive, self._send, self.addresses = receive, send, members
        self.on_lost: Callable[[int], None] = lambda peer: None

    async def start(self) -> None:
        """The network is there already."""

    async def close(self) -> None:
        """And stays."""

    def send(self, to: int, frame: bytes, droppable: bool = False) -> None:
        self._send(to, frame, droppable)


class _Entries:
    """What Raft replicates: entries, handed on in order; a height is too short for snapshots."""

    def __init__(self, apply: Callable[[bytes], None]):
        self._apply = apply

    def apply(self, entries: list[Any]) -> None:
        for entry in entries:
            if entry.kind is EntryKind.NORMAL and entry.data:
                self._apply(entry.data)

    def dump(self) -> bytes:
        return b""

    def load(self, data: bytes) -> None:
        """There is nothing to load."""
