"""A Raft server as a process: JSON commands on standard input, one JSON answer a line.

    python -m experiments.benchmarks.raft_server '{"id": 0, "addresses": {...}, ...}'

Commands: status; append {value}; read; load {window, seconds, bytes}; stop. It listens on its
socket only, and believes whoever holds its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from time import perf_counter, process_time
from typing import Any
from zlib import crc32

import numpy as np

from consensus.disk import FolderDisk, FolderLock
from consensus.identity import Key
from consensus.network.hello import Credentials
from consensus.network.processes import ProcessNetwork
from consensus.raft.config import RaftConfig
from consensus.raft.messages import ConfState, Entry, EntryKind, Snapshot
from consensus.raft.node import RaftNode
from consensus.raft.storage import Durable, MemoryStorage
from consensus.wal import WriteAheadLog

CHAIN_ID = 1337


class Ledger:
    """The replicated application: a count, a checksum over everything, and short values by name."""

    def __init__(self) -> None:
        self.load(b"")

    def apply(self, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.kind is EntryKind.NORMAL and entry.data:
                self.count += 1
                self.crc = crc32(entry.data, self.crc)
                if entry.data[:1] == b"=":
                    self.values.append(entry.data[1:].decode())

    def dump(self) -> bytes:
        return json.dumps([self.count, self.crc, self.values]).encode()

    def load(self, data: bytes) -> None:
        self.count, self.crc, self.values = json.loads(data) if data else (0, 0, [])


def key_of(id: int) -> Key:
    """A server's key in a benchmark or test, where nothing is at stake."""
    return Key(sha256(b"raft server %d" % id).digest())


def build(setting: dict[str, Any]) -> tuple[RaftNode, Ledger]:
    """setting: id, addresses {id: address}, folder (None: in memory), durable, tick_s,
    snapshot_every, config (knobs of RaftConfig)."""
    addresses = {int(id): address for id, address in setting["addresses"].items()}
    initial = ConfState(tuple(sorted(addresses)))
    if setting.get("folder"):
        storage = WriteAheadLog(FolderDisk(Path(setting["folder"])), initial)
    else:
        storage = MemoryStorage(Durable(snapshot=Snapshot(conf=initial)))
    members = {id: key_of(id).node_id for id in addresses}
    mine = Credentials(setting["id"], key_of(setting["id"]), CHAIN_ID, members)
    ledger = Ledger()
    node = RaftNode(
        setting["id"], RaftConfig(**setting.get("config", {})), storage, ledger,
        lambda receive: ProcessNetwork(mine, addresses, receive),
        tick_s=setting.get("tick_s", 0.01), snapshot_every=setting.get("snapshot_every", 10_000),
        durable=setting.get("durable", bool(setting.get("folder"))), seed=setting.get("seed", 0),
    )  # fmt: skip
    return node, ledger


class Load:
    """So many proposals outstanding at a time; latencies in order of commit, which is that of asking."""

    def __init__(self, node: RaftNode, window: int, size: int):
        self.node, self.window, self.data = node, window, b"x" * size
        self.asked: deque[float] = deque()
        self.latencies: list[float] = []
        self.refused, self.running = 0, False

    async def run(self, seconds: float) -> dict[str, float]:
        """Warm up for a fifth of the time, then measure."""
        self.running = True
        for _ in range(self.window):
            self._ask()
        await asyncio.sleep(seconds / 5)
        self.latencies.clear()
        begin, cpu = perf_counter(), process_time()
        await asyncio.sleep(seconds)
        spent, cpu = perf_counter() - begin, process_time() - cpu
        self.running = False
        seen = np.array(self.latencies or [float("nan")]) * 1000
        return {
            "per_s": len(self.latencies) / spent,
            "p50_ms": float(np.quantile(seen, 0.5)),
            "p99_ms": float(np.quantile(seen, 0.99)),
            "leader_us": 1e6 * cpu / max(len(self.latencies), 1),
            "refused": self.refused,
        }

    def _ask(self) -> None:
        self.asked.append(perf_counter())
        self.node.propose(self.data, self._done)

    def _done(self, ok: bool) -> None:
        waited = perf_counter() - self.asked.popleft()
        if ok:
            self.latencies.append(waited)
            if self.running:
                self._ask()
            return
        self.refused += 1
        if self.running:  # no leader now: ask again in a moment
            asyncio.get_running_loop().call_later(0.01, self._ask)


async def _answer(node: RaftNode, ledger: Ledger, command: dict[str, Any]) -> dict[str, Any]:
    what = command["do"]
    if what == "append":
        return {"ok": await node.ordered(b"=" + command["value"].encode())}
    if what == "read":
        return {"ok": await node.linearizable(), "values": ledger.values}
    if what == "load":
        return await Load(node, command["window"], command["bytes"]).run(command["seconds"])
    core = node.core
    return {
        "role": core.role.name, "term": core.term, "leader": core.leader,
        "applied": core.log.applied, "count": ledger.count, "crc": ledger.crc,
        "reachable": node.network.connected(), "warnings": node.malformed,
        "failed": str(node.failed or ""),
    }  # fmt: skip


async def serve(setting: dict[str, Any]) -> None:
    """Until standard input ends or says stop."""
    node, ledger = build(setting)
    await node.start()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        if command["do"] == "stop":
            break
        sys.stdout.write(json.dumps(await _answer(node, ledger, command)) + "\n")
        sys.stdout.flush()
    await node.close()


def main(setting: dict[str, Any]) -> None:
    """Serve, as the only process on its folder."""
    with FolderLock(Path(setting["folder"])) if setting.get("folder") else nullcontext():
        asyncio.run(serve(setting))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
