"""Cell of `scenario=latency_plan`: how many edge rounds a global round should have.

Devices and links follow the cell's clock, consensus is measured on simulated Raft servers, the
convergence bound is fitted to pilot runs that really train.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from consensus.network.links import Link, LogNormal
from consensus.raft.cluster import Cluster, Setting
from consensus.raft.config import RaftConfig
from experiments import federation_cell
from experiments.benchmarks.cells import write_rows
from fedalign.core.contracts import State
from fedalign.core.errors import ConfigError
from fedalign.federation.latency import (
    Choice,
    Progress,
    RoundTime,
    fastest,
    first_timeout_s,
    least_feasible,
    searched,
)
from fedalign.federation.round import global_round

Config = Mapping[str, Any]
WIRE_BYTES_PER_S = 12_500_000  # 100 Mbit/s between two servers
FASTEST_TICK_US = 15_000  # ten ticks: election time-outs of 150 to 300 ms


@dataclass(frozen=True)
class Pilot:
    """One pilot run: loss after each global round (T,), mean seconds of an edge round and of what
    a global round takes besides."""

    edge_rounds: int
    losses: np.ndarray
    edge_s: float
    upload_s: float

    @property
    def omega(self) -> np.ndarray:
        """(T,): the mean loss of the first 1 .. T rounds, which the bound is about."""
        return np.cumsum(self.losses) / np.arange(1, len(self.losses) + 1)


@dataclass(frozen=True)
class Measured:
    """Seconds of simulated Raft: from nothing to a leader, and from a block to its commitment."""

    election_s: float
    append_s: float


def latency_plan(config: Config, folder: Path, environment: Config) -> None:
    """Pilots once, then for every delay of the servers' links consensus and the chosen K."""
    pilots = [pilot(config, k) for k in config["pilots"]]
    bits, rows = _block_bits(config), []
    upload_s = float(np.mean([p.upload_s for p in pilots]))
    edge_s = float(np.mean([p.edge_s for p in pilots]))
    progress = Progress.fitted(*_measurements(pilots))
    target, horizon = _target(config, progress), config["horizon"]
    most = config["most_edge_rounds"]
    for link_ms in config["link_ms"]:
        raft = consensus(config["servers"], link_ms, bits, config["seed"])
        where = {"link in ms": link_ms, "seed": config["seed"]}
        rows.append({"table": "consensus"} | where | _raft(config["servers"], link_ms, bits, raft))
        for pipelined in (False, True):
            time = RoundTime(edge_s, upload_s, config["blocks"] * raft.append_s, pipelined)
            here = where | {"consensus": "beside training" if pipelined else "after training"}
            rows.append(here | _plan(time, progress, target, horizon, most))
            rows += _curve(here, time, progress, target, most)
            if not pipelined:
                reached = _reached(pilots, time, progress, target)
                rows += [{"table": "pilots"} | where | row for row in reached]
    rows.append({"table": "fit", "seed": config["seed"]} | _fit(progress, target, pilots))
    write_rows(rows, config, folder, environment)


def pilot(config: Config, edge_rounds: int) -> Pilot:
    """Really train with K = edge_rounds; every pilot has the same number of edge rounds."""
    topology = {**config["topology"], "edge_rounds": edge_rounds}
    parts = federation_cell.federation({**config, "topology": topology})
    state, losses, edge_s, rest_s = State(0, parts.workload.initial()), [], [], []
    for _ in range(max(1, config["pilot_edge_rounds"] // edge_rounds)):
        state, outcome, metrics = global_round(parts, state)
        losses.append(metrics["loss"])
        longest = max(o.span.seconds for o in outcome.edges.values())
        edge_s.append(longest)
        rest_s.append(max(outcome.span.seconds - edge_rounds * longest, 0.0))
    parts.runtime.close()
    return Pilot(edge_rounds, np.array(losses), float(np.mean(edge_s)), float(np.mean(rest_s)))


def consensus(servers: int, link_ms: float, bits: float, seed: int, blocks: int = 20) -> Measured:
    """Elect a leader, then append blocks one after another; lognormal delays of this median."""
    link = Link(LogNormal(max(1, round(1000 * link_ms)), 0.25), bytes_per_s=WIRE_BYTES_PER_S)
    config = RaftConfig(election_tick=10, heartbeat_tick=1)
    cluster = Cluster(Setting(seed, servers, config, link, tick_us=_tick_us(link_ms, bits)))
    _until(cluster, lambda: cluster.leader() is not None, "no leader was elected")
    election_s, took, content = cluster.network.now_ns / 1e9, [], "x" * max(1, round(bits / 8))
    for block in range(blocks):
        leader = cluster.leader()
        if leader is None:
            _until(cluster, lambda: cluster.leader() is not None, "no leader was elected again")
            leader = cluster.leader()
        place, begun = len(cluster.operations), cluster.network.now_ns
        cluster.append(leader.id, "chain", f"{block}:{content}")
        done = lambda place=place: (  # noqa: E731
            len(cluster.operations) > place and cluster.operations[place].finished_ns is not None
        )
        _until(cluster, done, f"block {block} was not committed")
        took.append((cluster.operations[place].finished_ns - begun) / 1e9)
    return Measured(election_s, float(np.mean(took)))


def _tick_us(link_ms: float, bits: float) -> int:
    """Election time-outs of ten ticks must be long against a message's way, and against a block
    that heartbeats queue behind."""
    return max(FASTEST_TICK_US, round(1000 * link_ms), round(5e5 * bits / 8 / WIRE_BYTES_PER_S))


def _until(cluster: Cluster, done: Any, otherwise: str, limit_s: float = 600.0) -> None:
    end = cluster.network.now_ns + round(limit_s * 1e9)
    while not done():
        if not cluster.step() or cluster.network.now_ns > end:
            raise ConfigError(
                f"In {limit_s:g} simulated seconds {otherwise}: lower link_ms, or servers."
            )


def _block_bits(config: Config) -> float:
    return 32.0 * federation_cell.client_work(config).workload.layout.size


def _measurements(pilots: Sequence[Pilot]) -> tuple[list[int], list[int], list[float]]:
    """(K, T, Omega) of every pilot after the later three quarters of its rounds."""
    points = [
        (p.edge_rounds, t, float(p.omega[t - 1]))
        for p in pilots
        for t in range(max(1, len(p.losses) // 4), len(p.losses) + 1)
    ]
    k, t, omega = zip(*points, strict=True)
    return list(k), list(t), list(omega)


def _target(config: Config, progress: Progress) -> float:
    """As asked, or what K = 1 reaches in `horizon` global rounds."""
    asked = config["target_loss"]
    return progress(1, config["horizon"]) if asked is None else asked


def _plan(
    time: RoundTime, progress: Progress, target: float, horizon: int, most: int
) -> dict[str, Any]:
    closed = _chosen(lambda: fastest(time, progress, target, most))
    tried = _chosen(lambda: searched(time, progress, target, most))
    fixed = _chosen(lambda: least_feasible(time, progress, target, horizon))
    single = progress.rounds(1, target) * time(1)
    return {
        "a in s": time.edge_s,
        "b in s": time.extra_s,
        "consensus in s": time.consensus_s,
        "K* real": closed and closed.exact,
        "K*": closed and closed.edge_rounds,
        "K* searched": tried and tried.edge_rounds,
        "seconds at K*": closed and closed.seconds,
        "seconds at K=1": single,
        "saved in %": closed and 100 * (1 - closed.seconds / single),
        f"K for T={horizon}": fixed and fixed.edge_rounds,
    }


def _chosen(ask: Callable[[], Choice]) -> Choice | None:
    """None where no K meets the constraints, which the table shows as such."""
    try:
        return ask()
    except ConfigError:
        return None


def _raft(servers: int, link_ms: float, bits: float, raft: Measured) -> dict[str, Any]:
    low = 10 * _tick_us(link_ms, bits) / 1e6
    return {
        "servers": servers,
        "election in s": raft.election_s,
        "first time-out in s, formula": first_timeout_s(low, 2 * low, servers),
        "block committed in s": raft.append_s,
        "there and back in s, median": 2 * link_ms / 1000,
    }


def _fit(progress: Progress, target: float, pilots: Sequence[Pilot]) -> dict[str, Any]:
    k, t, omega = _measurements(pilots)
    guessed = np.array([progress(*at) for at in zip(k, t, strict=True)])
    error = np.abs(guessed / np.array(omega) - 1)
    return {
        "fitted to": "mean test loss of pilot runs",
        "X": progress.speed,
        "c": progress.drift,
        "floor": progress.floor,
        "target": target,
        "mean error in %": 100 * float(error.mean()),
    }


def _reached(
    pilots: Sequence[Pilot], time: RoundTime, progress: Progress, target: float
) -> list[dict[str, Any]]:
    """When each pilot itself reached the target, and what the fitted bound says."""
    rows = []
    for p in pilots:
        good = np.flatnonzero(p.omega <= target)
        rows.append({
            "K": p.edge_rounds,
            "rounds, measured": float(good[0] + 1) if len(good) else None,
            "rounds, bound": progress.rounds(p.edge_rounds, target),
            "seconds, measured": float((good[0] + 1) * time(p.edge_rounds)) if len(good) else None,
            "seconds, bound": progress.rounds(p.edge_rounds, target) * time(p.edge_rounds),
        })  # fmt: skip
    return rows


def _curve(
    where: Mapping[str, Any], time: RoundTime, progress: Progress, target: float, most: int
) -> list[dict[str, Any]]:
    """Seconds to the target against K, the chosen one marked; no curve where there is none."""
    best = _chosen(lambda: fastest(time, progress, target, most))
    if best is None:
        return []
    last = min(progress.most(target), most, max(3 * best.edge_rounds, 12))
    k = list(range(time.least if time.pipelined else 1, last + 1))
    return [{
        "figure": "seconds_to_target",
        "panel": f"consensus {where['consensus']}",
        "line": f"link {where['link in ms']:g} ms",
        "x": k,
        "y": [progress.rounds(x, target) * time(x) for x in k],
        "mark": [best.edge_rounds, best.seconds],
        "scale": "log",
        "x_label": "edge rounds per global round K",
        "y_label": "seconds to the target loss",
    }]  # fmt: skip
