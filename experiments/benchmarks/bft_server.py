"""A BFT server as a process: JSON commands on standard input, one JSON answer a line.

    python -m experiments.benchmarks.bft_server '{"id": 0, "addresses": {...}, "folder": ...}'

Commands: status; append {value}; read; load {window, seconds, bytes}; stop.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter, process_time
from typing import Any
from zlib import crc32

import numpy as np

from consensus.bft.config import BftConfig
from consensus.bft.journal_log import JournalLog
from consensus.bft.messages import Decision
from consensus.bft.node import BftNode
from consensus.bft.signing import Gate, Signer
from consensus.disk import FolderDisk, FolderLock
from consensus.network.hello import Credentials
from consensus.network.processes import ProcessNetwork
from experiments.benchmarks.raft_server import CHAIN_ID, key_of


class Ledger:
    """The replicated application: a count, a checksum over everything, and short values by name."""

    def __init__(self) -> None:
        self.height, self.count, self.crc, self.values = 0, 0, 0, []

    def apply(self, decision: Decision) -> None:
        if decision.height <= self.height:
            return
        self.height = decision.height
        for item in decision.batch:
            self.count += 1
            self.crc = crc32(item, self.crc)
            if item[:1] == b"=":
                self.values.append(item[1:].decode())


def build(setting: dict[str, Any]) -> tuple[BftNode, Ledger]:
    """setting: id, addresses {id: address}, folder, tick_s, config (knobs of BftConfig)."""
    addresses = {int(id): address for id, address in setting["addresses"].items()}
    members = {id: key_of(id).node_id for id in addresses}
    key, ledger = key_of(setting["id"]), Ledger()
    mine = Credentials(setting["id"], key, CHAIN_ID, members)
    node = BftNode(
        setting["id"], sorted(addresses), BftConfig(**setting.get("config", {})),
        JournalLog(FolderDisk(Path(setting["folder"]))), ledger.apply,
        lambda receive: ProcessNetwork(mine, addresses, receive),
        Signer(key, CHAIN_ID), Gate(members, CHAIN_ID), tick_s=setting.get("tick_s", 0.02),
        checkpoint_every=setting.get("checkpoint_every", 20_000),
    )  # fmt: skip
    return node, ledger


async def _load(node: BftNode, window: int, seconds: float, size: int) -> dict[str, Any]:
    """So many items outstanding at a time, all different."""
    latencies: list[float] = []
    end = perf_counter() + seconds
    cpu, refused = process_time(), 0

    async def one(lane: int) -> None:
        nonlocal refused
        number = 0
        while perf_counter() < end:
            begin, number = perf_counter(), number + 1
            name = f"{node.core.id}.{lane}.{number}.{begin}|".encode()
            if await node.ordered(name.ljust(size, b"x")):
                latencies.append(perf_counter() - begin)
            else:
                refused += 1

    await asyncio.gather(*map(one, range(window)))
    seen = np.array(latencies or [float("nan")]) * 1000
    return {
        "per_s": len(latencies) / seconds, "p50_ms": float(np.quantile(seen, 0.5)),
        "p99_ms": float(np.quantile(seen, 0.99)), "refused": refused,
        "leader_us": 1e6 * (process_time() - cpu) / max(len(latencies), 1),
    }  # fmt: skip


async def _answer(node: BftNode, ledger: Ledger, command: dict[str, Any]) -> dict[str, Any]:
    what = command["do"]
    if what == "append":
        return {"ok": await node.ordered(b"=" + command["value"].encode())}
    if what == "read":
        return {"ok": True, "values": ledger.values}
    if what == "load":
        return await _load(node, command["window"], command["seconds"], command["bytes"])
    core = node.core
    return {
        "term": core.round, "height": core.height, "leader": core.members[0],
        "count": ledger.count, "crc": ledger.crc, "reachable": node.network.connected(),
        "warnings": node.refused.total(), "evidence": len(node.evidence),
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
