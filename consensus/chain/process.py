"""Process: one server of a chain as an operating system process: log, blocks and RPC together.

    python -m consensus.chain.process DIR NODE [PASSPHRASE_FILE]

Where the log is Raft's, fewer than half of the servers may stop, and none may lie; where it is
BFT, fewer than a third may do anything. A server that was away fetches what it missed.

Papers: Ongaro, Ousterhout, "In Search of an Understandable Consensus Algorithm", USENIX ATC 2014;
Buchman, Kwon and Milosevic, "The latest gossip on BFT consensus", arXiv 1807.04938.
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
from consensus.chain.logs import BftLog, RaftLog
from consensus.chain.member import Member
from consensus.chain.node import ChainNode
from consensus.chain.pool import Pool
from consensus.chain.store import ModelStore
from consensus.network.hello import Credentials
from consensus.network.processes import ProcessNetwork
from consensus.rpc.ethereum import EthereumMethods
from consensus.rpc.filters import FilterMethods
from consensus.rpc.jsonrpc import Endpoint
from consensus.rpc.rounds import RoundMethods
from consensus.rpc.server import Server
from fedalign.core.errors import ConfigError, FedalignError, FolderBusyError

WISH_S = 0.1


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
        place = (node, len(ids), self.member, home)
        place = (*place, lambda receive: ProcessNetwork(mine, addresses, receive))
        if deployment.order == "bft":
            members = deployment.genesis.members
            self.log: RaftLog | BftLog = BftLog(*place, members, deployment.chain_id)
        else:
            self.log = RaftLog(*place, deployment.snapshot_every)
        self._members = deployment.genesis.members
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
            loop.add_signal_handler(number, self.log.node.stopped.set)
        await self.log.node.start()
        await self.rpc.start()
        ready()
        try:
            while not self.log.node.stopped.is_set():
                await asyncio.sleep(WISH_S)
                self.log.turn(self._voters())
                if self.log.ready:
                    for item in self.member.wishes(self.log.leads()):
                        self.log.node.propose(item)
        finally:
            await self.rpc.stop()
            await self.log.node.close()
            self.member.node.close()
            self._lock.close()
        if (failed := self.log.node.failed) is not None:
            raise FedalignError(f"Server {self._node} stopped: {failed}") from failed

    def _voters(self) -> list[int]:
        """Positions of the members at the head."""
        present = self.member.node.members_at(self.member.node.head)
        return [position for position, node in enumerate(self._members) if node in present]

    def _hand_in(self, raw: bytes) -> None:
        """From the RPC thread."""
        self._loop.call_soon_threadsafe(self.member.hand_in, raw)

    def _status(self) -> dict[str, object]:
        head = self.member.node.head
        return {
            "node": self._node,
            "order": self.log.name,
            **self.log.status(),
            "ready": self.log.ready,
            "height": head.block_number,
            "head": "0x" + head.hash.hex(),
            "connected": sorted(self.log.node.network.connected()),
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
