"""Raft speed: the core alone, the simulator, the explorer, and three processes against PySyncObj.

Rivals run in turn with ours, the same commands from the leader's own process; medians over
repetitions. PySyncObj is measured as it comes and tuned (periods of 1-2 ms).
"""

from __future__ import annotations

import importlib.util
import shutil
import socket
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from consensus.network.links import Link, LogNormal
from consensus.raft.cluster import Cluster, Setting
from consensus.raft.config import RaftConfig
from consensus.raft.core import Raft
from consensus.raft.explorer import Bounds, Explorer
from consensus.raft.messages import ConfState, Snapshot
from consensus.raft.storage import Durable
from consensus.raft.swarm import draw, play
from experiments.benchmarks.cells import write_rows
from experiments.benchmarks.server_processes import ServerProcesses, same_status, until
from fedalign.core.errors import ConfigError, FedalignError
from fedalign.core.seeds import Seeds

Config = Mapping[str, Any]
Row = dict[str, Any]
OURS = "experiments.benchmarks.raft_server"
RIVAL = "experiments.benchmarks.pysyncobj_server"
TUNED = {"appendEntriesPeriod": 0.002, "autoTickPeriod": 0.001}
BYTES = 100  # of a proposal
WINDOWS = (1, 64, 1024, 4096)  # proposals outstanding


def raft(config: Config, folder: Path, environment: Config) -> None:
    """`scenario=speed_raft`."""
    parts = {
        "core": lambda: core(config["entries"], config["repetitions"]),
        "simulator": lambda: simulator(config["schedules"]),
        "explorer": lambda: explorer(config["states"]),
        "processes": lambda: processes(config["seconds"], config["repetitions"]),
        "durable": lambda: durable(config["seconds"], config["repetitions"]),
    }
    if config["part"] not in parts:
        raise ConfigError(f"part is one of {', '.join(parts)}, got {config['part']!r}.")
    write_rows(parts[config["part"]](), config, folder, environment)


# ---------------------------------------------------------------------- in one process


def core(entries: int, repetitions: int) -> list[Row]:
    """Committed entries per CPU second of three cores in one thread, everything included."""
    return [
        {
            "table": "core", "batch": batch,
            "entries per CPU s": round(max(_core(batch, entries) for _ in range(repetitions))),
            "goal": 200_000 if batch >= 64 else None,
        }
        for batch in (1, 64, 1024)
    ]  # fmt: skip


def _core(batch: int, entries: int) -> float:
    conf = ConfState((0, 1, 2))
    cores = [
        Raft(id, RaftConfig(), Durable(snapshot=Snapshot(conf=conf)), Seeds(0).at("core", id=id))
        for id in range(3)
    ]
    wire: deque = deque()

    def obey(server: Raft) -> None:
        while server.has_ready():
            ready = server.ready()
            wire.extend(ready.messages)
            wire.extend(ready.messages_after_persist)
            server.advance(ready.ack)

    def settle(server: Raft) -> None:
        obey(server)
        while wire:
            message = wire.popleft()
            cores[message.to].step(message)
            obey(cores[message.to])

    cores[0].campaign()
    settle(cores[0])
    data, begin = [b"x" * BYTES] * batch, process_time()
    for number in range(entries // batch):
        cores[0].propose_many(data)
        settle(cores[0])
        if number % 64 == 63:
            for server in cores:
                server.compact(server.make_snapshot(b""))
    spent = process_time() - begin
    if cores[0].log.committed < entries // batch * batch:
        raise FedalignError("The core did not commit what was proposed: the rate means nothing.")
    return entries // batch * batch / spent


def simulator(schedules: int, seconds: int = 60) -> list[Row]:
    """Events per CPU second, invariants checked after each; and so long with five servers."""
    begin = process_time()
    events = sum(play(draw(seed)).events for seed in range(schedules))
    spent = process_time() - begin
    rows = [_rate("fault schedules", schedules, events, spent)]
    setting = Setting(servers=5, link=Link(LogNormal(1_000, 0.5), loss=0.02), tick_us=10_000)
    cluster, begin = Cluster(setting), process_time()
    for second in range(seconds):
        cluster.run(900_000)
        cluster.crash(second % 5)
        cluster.run(100_000)
        cluster.start(second % 5)
        for number in range(20):
            cluster.append((second + number) % 5, "k", f"{second}.{number}")
    return [*rows, _rate(f"5 servers, {seconds} s", 1, cluster.events, process_time() - begin)]


def _rate(what: str, runs: int, events: int, spent: float) -> Row:
    return {
        "table": "simulator", "what": what, "runs": runs, "events": events,
        "CPU s": round(spent, 2), "events per CPU s": round(events / spent), "goal": 30_000,
    }  # fmt: skip


def explorer(states: int) -> list[Row]:
    """Distinct states per CPU second; the goal is a million within ten minutes of one core."""
    begin = process_time()
    found = Explorer(Bounds()).explore(states)
    spent = process_time() - begin
    return [{
        "table": "explorer", "states": found.states, "steps": found.steps,
        "states of one server": found.locals, "CPU s": round(spent, 2),
        "states per CPU s": round(found.states / spent), "goal": round(1_000_000 / 600),
    }]  # fmt: skip


# ---------------------------------------------------------------------- three processes


def processes(seconds: float, repetitions: int) -> list[Row]:
    """Without forcing to disk: latency and throughput by window, and what servers warned of."""
    clusters = {
        "fedalign": lambda: _ours(durable=False),
        "PySyncObj": lambda: _rival({}),
        "PySyncObj tuned": lambda: _rival(TUNED),
    }
    if not _rival_is_here():
        ours = {"fedalign": clusters["fedalign"]}
        return [*_compared("processes", ours, seconds, repetitions), _ABSENT]
    rows = _compared("processes", clusters, seconds, repetitions)
    return rows + _process_goals(rows)


def durable(seconds: float, repetitions: int) -> list[Row]:
    """With a log on disk: ours is forced out before anything is acknowledged; PySyncObj's journal
    is a mapped file that a power failure may lose."""
    clusters = {
        "fedalign, forced to disk": lambda: _ours(durable=True),
        "PySyncObj tuned, journal": lambda: _rival(TUNED, journal=True),
    }
    if not _rival_is_here():
        clusters.popitem()
        return [*_compared("durable", clusters, seconds, repetitions), _ABSENT]
    rows = _compared("durable", clusters, seconds, repetitions)
    ours, theirs = (_best(rows, name) for name in clusters)
    return [*rows, _goal("best window, on disk, over PySyncObj's journal", ours / theirs, 0.5)]


_ABSENT = {"table": "goals", "what": "PySyncObj is absent: pip install 'pysyncobj>=0.3.14'"}


def _rival_is_here() -> bool:
    return importlib.util.find_spec("pysyncobj") is not None


def _process_goals(rows: Sequence[Row]) -> list[Row]:
    at = {(row["orderer"], row["window"]): row for row in rows}
    ours, plain, tuned = (
        [at[name, w] for w in WINDOWS] for name in dict.fromkeys(k for k, _ in at)
    )
    alone = [one[0]["p50 ms"] for one in (ours, plain, tuned)]
    at_64 = [one[1]["entries/s"] for one in (ours, plain, tuned)]
    best = [_best(rows, one[0]["orderer"]) for one in (ours, tuned)]
    return [
        _goal("p50 of PySyncObj over ours, window 1", alone[1] / alone[0], 50),
        _goal("p50 of PySyncObj tuned over ours, window 1", alone[2] / alone[0], 1.25),
        _goal("entries/s over PySyncObj, window 64", at_64[0] / at_64[1], 25),
        _goal("entries/s over PySyncObj tuned, window 64", at_64[0] / at_64[2], 1),
        _goal("entries/s over PySyncObj tuned, best windows", best[0] / best[1], 1),
    ]


def _best(rows: Sequence[Row], orderer: str) -> float:
    return max(row["entries/s"] for row in rows if row["orderer"] == orderer)


def _goal(what: str, ratio: float, least: float) -> Row:
    return {
        "table": "goals", "what": what, "ratio": round(ratio, 2), "at least": least,
        "met": ratio >= least,
    }  # fmt: skip


def _compared(
    table: str, clusters: Mapping[str, Callable], seconds: float, repetitions: int
) -> list[Row]:
    seen: dict[tuple[str, int], list[Mapping[str, float]]] = {}
    warned, equal = dict.fromkeys(clusters, 0), dict.fromkeys(clusters, True)
    for _ in range(repetitions):
        for name, start in clusters.items():
            with start() as servers:
                leader = servers.leader(30.0)
                for window in WINDOWS:
                    told = servers.ask(
                        leader, do="load", window=window, seconds=seconds, bytes=BYTES
                    )
                    seen.setdefault((name, window), []).append(told)
                equal[name] &= _end_equal(servers)
                warned[name] += sum(
                    servers.ask(id, do="status")["warnings"] for id in servers.running
                )
    return [
        {
            "table": table, "orderer": name, "window": window,
            "entries/s": round(_median(told, "per_s")),
            "p50 ms": round(_median(told, "p50_ms"), 3),
            "p99 ms": round(_median(told, "p99_ms"), 3),
            "leader us/entry": round(_median(told, "leader_us"), 1),
            "refused": sum(int(one["refused"]) for one in told),
            "warnings": warned[name], "equal at the end": equal[name],
        }
        for (name, window), told in seen.items()
    ]  # fmt: skip


def _median(told: Sequence[Mapping[str, float]], key: str) -> float:
    return float(np.median([one[key] for one in told]))


def _end_equal(servers: ServerProcesses) -> bool:
    """Do all servers end with the same count and checksum, given time to catch up?"""
    try:
        return until(lambda: same_status(servers, ("count", "crc")), 5.0, "equal ledgers")
    except FedalignError:
        return False


@contextmanager
def _ours(durable: bool) -> Iterator[ServerProcesses]:
    home, ports = tempfile.mkdtemp(prefix="raft-"), list(enumerate(_free_ports(3)))
    try:
        settings = {
            id: {
                "id": id, "addresses": {other: f"tcp:127.0.0.1:{port}" for other, port in ports},
                "folder": f"{home}/{id}" if durable else None,
            }
            for id in range(3)
        }  # fmt: skip
        with ServerProcesses(OURS, settings) as servers:
            yield servers
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _rival(knobs: Mapping[str, Any], journal: bool = False) -> Iterator[ServerProcesses]:
    home = tempfile.mkdtemp(prefix="pysyncobj-")
    addresses = {id: f"127.0.0.1:{port}" for id, port in enumerate(_free_ports(3))}
    try:
        settings = {}
        for id in range(3):
            more = {"journalFile": f"{home}/{id}.journal"} if journal else {}
            settings[id] = {"id": id, "addresses": addresses, "knobs": {**knobs, **more}}
        with ServerProcesses(RIVAL, settings) as servers:
            yield servers
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
