"""Logs: how the processes of a chain put its items in order: Raft or BFT behind one surface.

Papers: Ongaro, Ousterhout, "In Search of an Understandable Consensus Algorithm", USENIX ATC 2014;
Buchman, Kwon and Milosevic, "The latest gossip on BFT consensus", arXiv 1807.04938.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from consensus.bft import wire
from consensus.bft.config import BftConfig
from consensus.bft.journal_log import JournalLog
from consensus.bft.messages import Decision
from consensus.bft.node import BftNode
from consensus.bft.signing import Gate, Signer
from consensus.chain.member import Member
from consensus.chain.replica import Replica
from consensus.chain.store import ModelStore
from consensus.disk import FolderDisk
from consensus.encoding import decode, encode
from consensus.network.lines import Lines
from consensus.network.processes import ProcessNetwork
from consensus.pofel.messages import uint
from consensus.raft.confchange import ConfChange, Op
from consensus.raft.config import RaftConfig
from consensus.raft.messages import ConfState, Role
from consensus.raft.node import RaftNode
from consensus.wal import WriteAheadLog
from fedalign.core.errors import DataError, IntegrityError

TICK_S = 0.02
ORDER, STATE = 0, 1  # lines of the network
TURN_S = 2.0  # after so long without a block it is the next server's turn to write one
DUMP_EVERY = 256  # heights of the order between two states kept
KEPT_STATE = b"order:state"
Connect = Callable[[Callable[[int, bytes], None]], ProcessNetwork]


class RaftLog:
    """Fewer than half of the servers may stop.

    snapshot_every: entries between snapshots, of which as many stay for slow servers; >= 1.
    """

    name = "raft"

    def __init__(
        self, node: int, servers: int, member: Member, home: Path, connect: Connect,
        snapshot_every: int,
    ):  # fmt: skip
        self.replica = Replica(
            member, ModelStore(home / "snapshots"), [i for i in range(servers) if i != node]
        )
        lines = Lines(connect)
        state = lines.line(STATE, self._about_state)
        self.replica.send = state.send
        self.node = RaftNode(
            node,
            RaftConfig(keep_tail=snapshot_every),
            WriteAheadLog(
                FolderDisk(home / "wal"), ConfState(tuple(range(servers))), reserve=False
            ),
            self.replica,
            lambda receive: lines.line(ORDER, receive),
            tick_s=TICK_S,
            snapshot_every=snapshot_every,
            seed=node,
        )

    @property
    def ready(self) -> bool:
        """Whether this server has what the log builds on."""
        return not self.replica.fetching

    def leads(self) -> bool:
        """Whether it is this server's turn to write blocks."""
        return self.node.core.role is Role.LEADER

    def turn(self, voters: Sequence[int]) -> None:
        """Called now and then. voters: positions of the chain's members at present."""
        self.replica.fetch()
        conf = self.node.core.conf
        if not self.leads() or conf.outgoing or set(conf.voters) == set(voters):
            return
        changes = [(Op.ADD_VOTER, i) for i in sorted(set(voters) - set(conf.voters))]
        changes += [(Op.ADD_LEARNER, i) for i in sorted(set(conf.voters) - set(voters))]
        self.node.reconfigure(ConfChange(tuple(changes)))

    def status(self) -> dict[str, Any]:
        """What this server thinks of the order."""
        core = self.node.core
        return {
            "role": core.role.name.lower(), "term": core.term, "leader": core.leader,
            "voters": list(core.conf.voters), "log": core.log.snapshot.index,
        }  # fmt: skip

    def _about_state(self, sender: int, frame: bytes) -> None:
        try:
            self.replica.received(sender, frame)
        except DataError:
            self.node.malformed += 1


class BftLog:
    """Fewer than a third of the servers may lie. Decided heights stay in the chain's database, each
    with its certificate, so that a server that was away as long as it likes can be convinced."""

    name = "bft"

    def __init__(
        self, node: int, servers: int, member: Member, home: Path, connect: Connect,
        members: Sequence[bytes], chain_id: int,
    ):  # fmt: skip
        self._member, self._servers, self._id = member, servers, node
        self._database, self._lock = member.node.database, member.node.lock
        self._place = {address: position for position, address in enumerate(members)}
        self._applied = self._dumped = self._restored()
        self._seen: tuple[bytes, float] = (b"", 0.0)
        while (decision := self.earlier(self._applied + 1)) is not None:
            self._take(decision)
        self.node = BftNode(
            node,
            self._voters(),
            BftConfig(),
            JournalLog(FolderDisk(home / "wal"), reserve=False),
            self._decided,
            connect,
            Signer(member.key, chain_id),
            Gate(members, chain_id),
            TICK_S,
            earlier=self.earlier,
        )

    ready = True

    def leads(self) -> bool:
        """Members take turns; who does not write in time is passed over, by everybody's clock."""
        head, now = self._member.node.head, time.monotonic()
        if self._seen[0] != head.hash:
            self._seen = head.hash, now
        late = int((now - self._seen[1]) / TURN_S)
        voters = self.node.core.members
        return voters[(head.block_number + late) % len(voters)] == self._id

    def turn(self, voters: Sequence[int]) -> None:
        """Members change with the height after the block that changes them; see `_decided`."""

    def status(self) -> dict[str, Any]:
        """What this server thinks of the order."""
        core = self.node.core
        leader = core.proposer(core.height, core.round)
        role = "proposer" if leader == self._id else "voter"
        return {
            "role": role if self._id in core.members else "listener", "term": core.height,
            "leader": leader, "voters": list(core.members), "log": 0,
        }  # fmt: skip

    def earlier(self, height: int) -> Decision | None:
        """A decided height from the database."""
        with self._lock:
            key = _key(height)
            return wire.from_bytes(self._database[key]) if key in self._database else None

    def _decided(self, decision: Decision) -> tuple[int, ...]:
        if decision.height == self._applied + 1:
            self._take(decision)
            with self._lock:
                self._database[_key(decision.height)] = wire.to_bytes(decision)
            if self._applied >= self._dumped + DUMP_EVERY:
                self._keep()
        elif decision.height > self._applied:
            raise IntegrityError(
                f"The chain's database ends at height {self._applied} of the order, this server's "
                f"log begins at {decision.height}: copy chain.db from another server's folder."
            )
        return self._voters()

    def _take(self, decision: Decision) -> None:
        for item in decision.batch:
            self._member.apply(item)
        self._applied = decision.height

    def _keep(self) -> None:
        with self._lock:
            self._database[KEPT_STATE] = encode([self._applied, self._member.dump()])
        self._dumped = self._applied

    def _restored(self) -> int:
        """The height of the state in the database, which the member continues from."""
        if KEPT_STATE not in self._database:
            return 0
        height, dump = decode(self._database[KEPT_STATE])
        self._member.load(dump)
        return uint(64)(height)

    def _voters(self) -> tuple[int, ...]:
        """Positions of the members at the head; strangers among them have no address."""
        node = self._member.node
        present = {self._place[a] for a in node.members_at(node.head) if a in self._place}
        return tuple(sorted(present)) or tuple(range(self._servers))


def _key(height: int) -> bytes:
    return b"order:" + height.to_bytes(8, "big")
