"""Cell of `scenario=consensus_compare`: what it costs to agree on an update, protocol by protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

from consensus.baselines.line import Line
from consensus.baselines.orderings import (
    CliqueOrdering,
    HotStuffOrdering,
    PbftOrdering,
    PowOrdering,
)
from consensus.baselines.pofel_broadcast import PofelBroadcast
from consensus.costs import Energy
from consensus.ordering import BftOrdering, Ordering, RaftOrdering
from consensus.pofel.evaluation import quantize
from consensus.protocol import Chain, Ordered, PoFEL
from experiments.benchmarks.cells import write_rows
from experiments.cells.pofel_rounds import Row, agree, curve, models
from fedalign.core.errors import QuorumLostError, UnknownNameError

Config = Mapping[str, Any]
BROADCAST = "pofel broadcast"
PANELS = {  # column -> title and y axis
    "messages": ("Messages of a round", "messages"),
    "joules": ("Energy of a round", "joules"),
    "latency s": ("Latency of a round", "seconds"),
    "CPU s": ("CPU time of a round, all servers", "seconds"),
}
ENTRIES = 5  # ordered one after the other to measure an entry's cost


@dataclass(frozen=True)
class Protocol:
    """ordering: made for a seed. chain: who writes blocks over it. formula: messages of one entry
    at n servers. stops, lies: the most servers that its order
    stands missing, or lying about the order."""

    ordering: Callable[[int], Ordering]
    chain: type[Chain]
    formula: Callable[[int], int]
    stops: Callable[[int], int]
    lies: Callable[[int], int]


def _half(n: int) -> int:
    return (n - 1) // 2


def _third(n: int) -> int:
    return (n - 1) // 3


def _none(n: int) -> int:
    return 0


PROTOCOLS: Mapping[str, Protocol] = {
    "raft": Protocol(
        lambda seed: RaftOrdering(), Ordered, lambda n: 4 * (n - 1), _half, _none),
    "pbft": Protocol(
        lambda seed: PbftOrdering(), Ordered, lambda n: 2 * n * (n - 1), _third, _third),
    "hotstuff": Protocol(
        lambda seed: HotStuffOrdering(seed=seed), Ordered, lambda n: 7 * (n - 1), _third, _third),
    "clique": Protocol(
        lambda seed: CliqueOrdering(seed=seed), Ordered,
        lambda n: (n - 1) * (2 + n // 2), lambda n: n - n // 2 - 1, _none),
    "pow": Protocol(
        lambda seed: PowOrdering(), Ordered, lambda n: 8 * (n - 1), lambda n: n - 1, _half),
    "pofel on raft": Protocol(
        lambda seed: RaftOrdering(), PoFEL, lambda n: 4 * (n - 1), _half, _none),
    "pofel on bft": Protocol(
        lambda seed: BftOrdering(seed=seed), PoFEL, lambda n: 2 * (n + 1) * (n - 1), _third, _third),
}  # fmt: skip


def consensus_compare(config: Config, folder: Path, environment: Config) -> None:
    """One protocol at several sizes: one ordered entry, one agreed round, and who may be missing."""
    name, seed = config["protocol"], config["seed"]
    if name not in (*PROTOCOLS, BROADCAST):
        raise UnknownNameError("protocol", name, [*PROTOCOLS, BROADCAST])
    rows: list[Row] = []
    energy = Energy(config["core_watts"], config["joules_per_byte"])
    seen: dict[str, list[float]] = {key: [] for key in PANELS}
    for n in config["servers"]:
        where = {"protocol": name, "n": n, "seed": seed}
        if name == BROADCAST:
            round_ = _broadcast(n, seed, config, energy)
            rows.append(where | round_)
        else:
            protocol = PROTOCOLS[name]
            round_ = _round(protocol, n, seed, config, energy)
            rows += [where | round_, {"table": "entries"} | where | _entry(protocol, n, seed)]
            rows.append({"table": "faults"} | where | _faults(protocol, n, seed))
        for key, values in seen.items():
            values.append(round_[key])
    for key, values in seen.items():
        panel, up = PANELS[key]
        rows.append(curve("protocols", panel, name, config["servers"], values, "servers", up,
                          scale="log"))  # fmt: skip
    write_rows(rows, config, folder, environment)


def _round(protocol: Protocol, n: int, seed: int, config: Config, energy: Energy) -> Row:
    """The second round of a chain, the first one also warms up; CPU time is the less of two."""
    chain = protocol.chain(n, seed, ordering=protocol.ordering(seed))
    chain.open(None)
    found = [agree(chain, models(n, config["d"], seed, k), k) for k in (1, 2, 3)]
    cost, cpu_s = found[1].cost, min(verdict.cost.cpu_s for verdict in found[1:])
    spare = found[1].costs.get("election")
    latency = cost.latency_s - (spare.latency_s if spare else 0.0)
    hashes = _hashes(chain.ordering, n, latency, energy)
    bytes_ = cost.bytes + cost.model_bytes
    joules = energy.joules(cpu_s, bytes_, hashes)
    training = energy.joules(n * config["training_cpu_s"], 0)
    return {
        "messages": cost.messages, "control kB": cost.bytes / 1e3,
        "models kB": cost.model_bytes / 1e3, "CPU s": cpu_s,
        "signatures": cost.signatures, "hashes": cost.hashes + hashes,
        "latency s": latency, "joules": joules, "joules with training": joules + training,
    }  # fmt: skip


def _broadcast(n: int, seed: int, config: Config, energy: Energy) -> Row:
    """PoFEL without a common order; it has no final signatures and stands no late message."""
    chain = PofelBroadcast(n, seed)
    updates = models(n, config["d"], seed)
    rows = quantize(updates.rows.numpy(), chain.settings.scale)
    played = chain.play(rows, updates.samples.tolist())
    model_bytes = chain.network.counters.bytes - played.bytes
    joules = energy.joules(played.cpu_s, played.bytes + model_bytes)
    training = energy.joules(n * config["training_cpu_s"], 0)
    return {
        "messages": played.messages, "control kB": played.bytes / 1e3,
        "models kB": model_bytes / 1e3, "CPU s": played.cpu_s,
        "signatures": played.signatures, "hashes": played.hashes,
        "latency s": played.latency_s, "joules": joules, "joules with training": joules + training,
    }  # fmt: skip


def _hashes(ordering: Ordering, n: int, seconds: float, energy: Energy) -> float:
    """A miner hashes all the time, on one core each; it is charged, not burnt, here."""
    return n * seconds * energy.hashes_per_s if isinstance(ordering, PowOrdering) else 0.0


def _entry(protocol: Protocol, n: int, seed: int) -> Row:
    """An entry of 200 bytes at the leader, until every server has it."""
    line = Line(protocol.ordering(seed), n, seed)
    line.settle()
    line.order(bytes(200), at=None)
    sent, bytes_, cpu = line.messages, line.bytes, line.cpu_s
    signatures, hashes = line.signatures, line.hashes
    waited = [line.order(k.to_bytes(200, "big"), at=None) for k in range(1, ENTRIES + 1)]
    trees = [getattr(core, "tree", None) for core in line.cores]
    return {
        "messages": (line.messages - sent) / ENTRIES, "normal case": protocol.formula(n),
        "kB": (line.bytes - bytes_) / ENTRIES / 1e3,
        "CPU ms": 1e3 * (line.cpu_s - cpu) / ENTRIES,
        "signatures": (line.signatures - signatures) / ENTRIES,
        "hashes": (line.hashes - hashes) / ENTRIES,
        "latency ms": 1e3 * sum(waited) / ENTRIES,
        "forks": max((tree.forks for tree in trees if tree), default=0),
        "reorganised": max((tree.reorganised for tree in trees if tree), default=0),
    }  # fmt: skip


def _faults(protocol: Protocol, n: int, seed: int) -> Row:
    """Rounds with the first f servers missing, and with one more."""
    f = protocol.stops(n)
    return {
        "may be down": f, "may lie": protocol.lies(n),
        "agrees with f down": _stands(protocol, n, seed, f),
        "agrees with f + 1 down": _stands(protocol, n, seed, f + 1) if f + 1 < n else nan,
    }  # fmt: skip


def _stands(protocol: Protocol, n: int, seed: int, down: int) -> bool:
    line = Line(protocol.ordering(seed), n, seed, down=range(down))
    with suppress(QuorumLostError):
        line.settle(20.0)
        line.order(b"entry", at=n - 1, limit_s=120.0 if protocol.stops(n) < n - 1 else 1200.0)
        return True
    return False
