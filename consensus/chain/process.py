"""Process: one server of a chain as an operating system process: log, blocks and RPC together.

    python -m consensus.chain.process DIR NODE [PASSPHRASE_FILE]

The log is Raft's, so servers may stop, fewer than half of them, and none of them may lie.

Paper: Ongaro, Ousterhout, "In Search of an Understandable Consensus Algorithm", USENIX ATC 2014.
"""

from __future__ import annotations

import asyncio
import fcntl
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from consensus.chain import keystore
from consensus.chain.database import Database
from consensus.chain.deployment import Deployment
from consensus.chain.member import Member
from consensus.chain.node import ChainNode
from consensus.chain.pool import Pool
from consensus.chain.store import ModelStore
from consensus.disk import FolderDisk
from consensus.network.hello import Credentials
from consensus.network.processes import ProcessNetwork
from consensus.raft.config import RaftConfig
from consensus.raft.messages import ConfState, Entry, EntryKind, Role
from consensus.raft.node import RaftNode
from consensus.rpc.ethereum import EthereumMethods
from consensus.rpc.filters import FilterMethods
from consensus.rpc.jsonrpc import Endpoint
from consensus.rpc.rounds import RoundMethods
from consensus.rpc.server import Server
from consensus.wal import WriteAheadLog
from fedalign.core.errors import ConfigError, FedalignError, FolderBusyError

TICK_S, WISH_S = 0.02, 0.1


class Intake(Pool):
    """The pool that RPC sees: what it takes goes through the log first."""

    def __init__(self, node: ChainNode, hand_in: Callable[[bytes], None]):
        super().__init__(node)
        self._hand_in = hand_in

    def add(self, raw: bytes) -> bytes:
        name = super().add(raw)
        self.forget([raw])  # only checked here: the log hands it to every member's pool
        self._hand_in(raw)
        return name


class Replicated:
    """The log's view of a member: entries in order. Blocks stay in the database, so the log's
    beginning is never thrown away and nothing has to be dumped."""

    def __init__(self, member: Member):
        self._member = member

    def apply(self, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.kind is EntryKind.NORMAL and entry.data:
                self._member.apply(entry.data)

    def dump(self) -> bytes:
        return b""

    def load(self, data: bytes) -> None:
        """There is nothing to load."""


class ChainProcess:
    """Server `node` of the chain in `folder`. Raises FolderBusyError where it runs already."""

    def __init__(self, folder: Path, node: int, passphrase: str | None = None):
        deployment = Deployment.read(folder)
        home = deployment.home(folder, node)
        self._lock = _locked(home / "lock")
        key = keystore.load(home / "key.json", passphrase)
        if key.node_id.hex() != deployment.members[node]:
            raise ConfigError(f"{home / 'key.json'} is not the key of server {node}.")
        chain = ChainNode(deployment.genesis, Database(home / "chain.db"))
        self.member = Member(chain, key)
        ids = range(len(deployment.members))
        mine = Credentials(
            node, key, deployment.chain_id, {i: deployment.genesis.members[i] for i in ids}
        )
        addresses = dict(enumerate(deployment.peers))
        self.log = RaftNode(
            node,
            RaftConfig(),
            WriteAheadLog(FolderDisk(home / "wal"), ConfState(tuple(ids)), reserve=False),
            Replicated(self.member),
            lambda receive: ProcessNetwork(mine, addresses, receive),
            tick_s=TICK_S,
            snapshot_every=0,
            seed=node,
        )
        ethereum = EthereumMethods(chain, Intake(chain, self._hand_in))
        methods = ethereum.methods() | FilterMethods(chain, ethereum).methods()
        methods |= RoundMethods(chain, ModelStore(home / "models")).methods()
        methods["fedalign_status"] = self._status
        self.rpc = Server(Endpoint(methods), port=deployment.rpc_ports[node])
        self._node = node

    async def run(self, ready: Callable[[], None]) -> None:
        """Until SIGTERM, SIGINT or a failure, which is raised."""
        loop = self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.log.stopped.set)
        await self.log.start()
        await self.rpc.start()
        ready()
        try:
            while not self.log.stopped.is_set():
                await asyncio.sleep(WISH_S)
                for item in self.member.wishes(self.log.core.role is Role.LEADER):
                    self.log.propose(item)
        finally:
            await self.rpc.stop()
            await self.log.close()
            self.member.node.close()
            self._lock.close()
        if self.log.failed is not None:
            raise FedalignError(f"Server {self._node} stopped: {self.log.failed}") from (
                self.log.failed
            )

    def _hand_in(self, raw: bytes) -> None:
        """From the RPC thread."""
        self._loop.call_soon_threadsafe(self.member.hand_in, raw)

    def _status(self) -> dict[str, object]:
        core, head = self.log.core, self.member.node.head
        return {
            "node": self._node,
            "role": core.role.name.lower(),
            "term": core.term,
            "leader": core.leader,
            "height": head.block_number,
            "head": "0x" + head.hash.hex(),
            "connected": sorted(self.log.network.connected()),
            "waiting": len(self.member.pool),
        }


def _locked(path: Path) -> IO[str]:
    """A lock that ends with the process: one key must not speak twice."""
    file = open(path, "w")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise FolderBusyError(
            f"{path.parent} is in use by another process: a server runs once."
        ) from None
    return file


def main(arguments: list[str]) -> int:
    """Run one server; prints its RPC address once it answers."""
    folder, node = Path(arguments[0]), int(arguments[1])
    try:
        passphrase = Path(arguments[2]).read_text().strip() if len(arguments) > 2 else None
        process = ChainProcess(folder, node, passphrase)
        asyncio.run(process.run(lambda: print(process.rpc.url, flush=True)))
    except (FedalignError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
