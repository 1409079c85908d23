"""A PySyncObj server as a process, with the same commands as `raft_server`.

    python -m experiments.benchmarks.pysyncobj_server '{"id": 0, "addresses": {...}, ...}'

It is driven by its own tick in one thread, its fastest mode. Warnings it logs are counted: under
load it says that it cut entries already applied.
"""

from __future__ import annotations

import json
import logging
import select
import sys
from collections import Counter, deque
from time import perf_counter, process_time
from typing import Any
from zlib import crc32

import numpy as np
from pysyncobj import SyncObj, SyncObjConf, replicated


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.texts[str(record.msg)] += 1


class Ledger(SyncObj):
    """The replicated application: a count and a checksum."""

    def __init__(self, own: str, others: list[str], conf: SyncObjConf):
        super().__init__(own, others, conf)
        self.count, self.crc = 0, 0

    @replicated
    def append(self, data: bytes) -> None:
        self.count += 1
        self.crc = crc32(data, self.crc)


class Load:
    """So many proposals outstanding at a time."""

    def __init__(self, ledger: Ledger, period_s: float, window: int, size: int):
        self.ledger, self.period_s, self.window, self.data = ledger, period_s, window, b"x" * size
        self.asked: deque[float] = deque()
        self.latencies: list[float] = []
        self.refused, self.running = 0, False

    def run(self, seconds: float) -> dict[str, float]:
        """Warm up for a fifth of the time, then measure."""
        self.running = True
        for _ in range(self.window):
            self._ask()
        self._drive(seconds / 5)
        self.latencies.clear()
        begin, cpu = perf_counter(), process_time()
        self._drive(seconds)
        spent, cpu = perf_counter() - begin, process_time() - cpu
        self.running = False
        count = len(self.latencies)
        seen = np.array(self.latencies or [float("nan")]) * 1000
        return {
            "per_s": count / spent,
            "p50_ms": float(np.quantile(seen, 0.5)),
            "p99_ms": float(np.quantile(seen, 0.99)),
            "leader_us": 1e6 * cpu / max(count, 1),
            "refused": self.refused,
        }

    def _drive(self, seconds: float) -> None:
        end = perf_counter() + seconds
        while perf_counter() < end:
            self.ledger.doTick(self.period_s)

    def _ask(self) -> None:
        self.asked.append(perf_counter())
        self.ledger.append(self.data, callback=self._done)

    def _done(self, result: Any, error: Any) -> None:
        waited = perf_counter() - self.asked.popleft()
        if error == 0:
            self.latencies.append(waited)
        else:
            self.refused += 1
        if self.running:
            self._ask()


def serve(setting: dict[str, Any]) -> None:
    """setting: id, addresses {id: "host:port"}, knobs of SyncObjConf (periods in seconds)."""
    warnings = _Warnings()
    logging.getLogger().addHandler(warnings)
    addresses = {int(id): address for id, address in setting["addresses"].items()}
    own = addresses.pop(setting["id"])
    knobs = setting.get("knobs", {})
    conf = SyncObjConf(autoTick=False, commandsQueueSize=1_000_000, **knobs)
    ledger = Ledger(own, list(addresses.values()), conf)
    period_s = knobs.get("autoTickPeriod", 0.05)
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN)
    while True:
        ledger.doTick(period_s)
        if not poll.poll(0):
            continue
        line = sys.stdin.readline()
        command = json.loads(line) if line else {"do": "stop"}
        if command["do"] == "stop":
            ledger.destroy()
            return
        if command["do"] == "load":
            load = Load(ledger, period_s, command["window"], command["bytes"])
            answer = load.run(command["seconds"])
        else:
            status = ledger.getStatus()
            leader = status["leader"]
            names = {address: id for id, address in addresses.items()} | {own: setting["id"]}
            answer = {
                "term": status["raft_term"],
                "leader": names.get(str(leader), -1) if leader is not None else -1,
                "count": ledger.count, "crc": ledger.crc, "warnings": warnings.texts.total(),
                "texts": warnings.texts,
            }  # fmt: skip
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
