"""Deployment: what the processes of one chain have agreed on, as files in a folder.

    DIR/chain.json          chain id, members, genesis time, every server's addresses, the order
    DIR/node-0/key.json     its key      chain.db  its blocks      wal/  its log      models/

Paper: none; our derivation.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from consensus.chain import keystore
from consensus.chain.genesis import Genesis
from consensus.identity import Key
from fedalign.core.errors import ConfigError, DataError

FILE = "chain.json"
MOST_NODES, LEAST_BFT = 64, 4
Order = Literal["raft", "bft"]


@dataclass(frozen=True)
class Deployment:
    """members: node ids in hexadecimal. peers: "tcp:HOST:PORT" of every server's log; rpc_ports:
    of every server's RPC, on the loopback interface. time_s: of the first block. order: raft, where
    a majority seals blocks, or bft, where more than two thirds do. snapshot_every: entries of a
    Raft log between snapshots."""

    chain_id: int
    time_s: int
    members: tuple[str, ...]
    peers: tuple[str, ...]
    rpc_ports: tuple[int, ...]
    order: Order = "raft"
    snapshot_every: int = 10_000

    def __post_init__(self) -> None:
        if self.order not in get_args(Order) or self.snapshot_every < 1:
            raise ConfigError(
                f"A chain's order is one of {', '.join(get_args(Order))} and snapshot_every at least "
                f"1; got '{self.order}' and {self.snapshot_every}."
            )
        if self.order == "bft" and len(self.members) < LEAST_BFT:
            raise ConfigError(
                f"An order that stands a lying server needs {LEAST_BFT} servers or more, got "
                f"{len(self.members)}: raise --nodes, or take --order raft."
            )

    @property
    def genesis(self) -> Genesis:
        members = tuple(bytes.fromhex(member) for member in self.members)
        faults = "byzantine" if self.order == "bft" else "crash"
        return Genesis(members, chain_id=self.chain_id, time_s=self.time_s, faults=faults)

    def rpc_url(self, node: int) -> str:
        return f"http://127.0.0.1:{self.rpc_ports[node]}"

    @staticmethod
    def create(
        folder: Path,
        nodes: int,
        time_s: int,
        chain_id: int = 131_277,
        passphrase: str | None = None,
        order: Order = "raft",
        snapshot_every: int = 10_000,
    ) -> Deployment:
        """A new chain of so many servers on this machine, 1 .. 64, with fresh keys and free ports."""
        if not 1 <= nodes <= MOST_NODES:
            raise ConfigError(f"A chain has 1 .. {MOST_NODES} servers, got {nodes}.")
        if (folder / FILE).exists():
            raise ConfigError(f"{folder} holds a chain already: use it, or another folder.")
        keys = [Key(os.urandom(32)) for _ in range(nodes)]
        ports = free_ports(2 * nodes)
        found = Deployment(
            chain_id,
            time_s,
            tuple(key.node_id.hex() for key in keys),
            tuple(f"tcp:127.0.0.1:{port}" for port in ports[:nodes]),
            tuple(ports[nodes:]),
            order,
            snapshot_every,
        )
        for node, key in enumerate(keys):
            found.home(folder, node).mkdir(parents=True, exist_ok=True)
            keystore.save(found.home(folder, node) / "key.json", key, passphrase)
        (folder / FILE).write_text(
            json.dumps(asdict(found), indent=1) + "\n"
        )  # last: now it exists
        return found

    @staticmethod
    def read(folder: Path) -> Deployment:
        """Raises ConfigError where there is no chain, DataError where its file is damaged."""
        try:
            told = json.loads((folder / FILE).read_text())
            lists = {name: tuple(told[name]) for name in ("members", "peers", "rpc_ports")}
            how = {name: told[name] for name in ("order", "snapshot_every") if name in told}
            found = Deployment(chain_id=told["chain_id"], time_s=told["time_s"], **lists, **how)
        except FileNotFoundError:
            raise ConfigError(
                f"{folder} holds no chain: fedalign chain up --nodes 4 --dir {folder} makes one."
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder / FILE} describes no chain: {error!r}.") from error
        if not len(found.members) == len(found.peers) == len(found.rpc_ports):
            raise DataError(f"{folder / FILE} must name one address and one port per member.")
        return found

    def home(self, folder: Path, node: int) -> Path:
        """A server's own files."""
        if not 0 <= node < len(self.members):
            raise ConfigError(f"The chain has servers 0 .. {len(self.members) - 1}, no {node}.")
        return folder / f"node-{node}"


def free_ports(count: int) -> Sequence[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
