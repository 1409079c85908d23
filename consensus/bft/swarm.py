"""Swarm: every seed draws its own BFT cluster, liars and faults; then all heals and must move.

Replay one seed: python -m consensus.bft.swarm SEED

Paper: Groce et al., "Swarm Testing", ISSTA 2012; Bano et al., "Twins", OPODIS 2021.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from consensus.bft.cluster import Cluster, Setting
from consensus.bft.config import BftConfig
from consensus.bft.quorum import faulty
from consensus.network.links import Constant, Latency, Link, LogNormal, Pareto
from fedalign.core.errors import FedalignError, IntegrityError
from fedalign.core.seeds import Seeds

FAULTS = (
    "crash", "restart", "partition", "one_way", "heal", "fail_sync", "isolate_proposer",
    "split_twins", "liar_restart",
)  # fmt: skip
LIARS = ("twins", "forgetful", "two_faced")


class Action(NamedTuple):
    """Something that happens `at_us` after the start; `draw` decides its details."""

    at_us: int
    what: str
    draw: int


@dataclass(frozen=True)
class Schedule:
    """A setting and all that is done to it. heal_us: time given to recover afterwards."""

    setting: Setting
    actions: tuple[Action, ...]
    duration_us: int
    heal_us: int


class Outcome(NamedTuple):
    """A schedule that went well. healed_us: from the end of all faults to a new item everywhere.

    operations: items clients asked for. committed: items ordered. terms: heights decided.
    evidence: contradictions that honest servers found.
    """

    trace: str
    events: int
    operations: int
    committed: int
    terms: int
    healed_us: int
    evidence: int


class SwarmError(IntegrityError):
    """A schedule broke a rule; the text ends with the command that replays it."""


def draw(seed: int, duration_us: int = 3_000_000) -> Schedule:
    """The schedule of a seed."""
    rng = Seeds(seed).at("bft_swarm")
    servers = int(rng.choice([4, 4, 4, 5, 6, 7]))
    liars: dict[str, tuple[int, ...]] = {kind: () for kind in LIARS}
    chosen = rng.permutation(servers)[: int(rng.integers(faulty(servers) + 1))]
    for server in chosen:
        kind = LIARS[int(rng.integers(len(LIARS)))]
        liars[kind] += (int(server),)
    skewed = rng.random() < 0.3
    setting = Setting(
        seed=seed,
        servers=servers,
        **liars,
        config=BftConfig(
            propose_tick=int(rng.integers(2, 8)),
            vote_tick=int(rng.integers(1, 5)),
            growth_tick=int(rng.integers(1, 4)),
            resend_tick=int(rng.integers(2, 10)),
            max_batch_bytes=int(rng.choice([1, 64, 1 << 20])),
            max_batch_items=int(rng.choice([1, 4, 4096])),
        ),
        link=_link(rng),
        disk=(Constant(0), Constant(2_000), LogNormal(20_000, 1.0))[int(rng.integers(3))],
        skew_percent=tuple(int(x) for x in rng.integers(50, 201, servers)) if skewed else (),
        checkpoint_every=int(rng.choice([0, 10, 50])),
    )
    return Schedule(setting, _actions(rng, duration_us), duration_us, 60_000_000)


def play(schedule: Schedule) -> Outcome:
    """Run a schedule, heal, demand progress; SwarmError if a rule is broken."""
    try:
        return _play(schedule)
    except FedalignError as error:
        raise SwarmError(
            f"{error} Replay: python -m consensus.bft.swarm {schedule.setting.seed}"
        ) from error


def _link(rng: np.random.Generator) -> Link:
    latency: tuple[Latency, ...] = (Constant(5_000), LogNormal(20_000, 1.0), Pareto(5_000, 1.2))
    return Link(
        latency[int(rng.integers(3))],
        loss=float(rng.choice([0.0, 0.02, 0.2])),
        duplicate=float(rng.choice([0.0, 0.1])),
        reorder=bool(rng.random() < 0.7),
    )


def _actions(rng: np.random.Generator, duration_us: int) -> tuple[Action, ...]:
    actions = []
    for fault in FAULTS:
        if rng.random() < 0.4:
            actions += [(int(at), fault) for at in rng.integers(0, duration_us, rng.integers(1, 6))]
    actions += [(int(at), "append") for at in rng.integers(0, duration_us, 30)]
    return tuple(Action(at, what, int(rng.integers(1 << 30))) for at, what in sorted(actions))


def _play(schedule: Schedule) -> Outcome:
    cluster = Cluster(schedule.setting)
    for number, action in enumerate(schedule.actions):
        cluster.run(max(0, action.at_us - cluster.network.now_ns // 1000))
        _do(cluster, action, number)
    cluster.run(max(0, schedule.duration_us - cluster.network.now_ns // 1000))
    healed_us = _heal(cluster, schedule.heal_us)
    cluster.invariants.everything()
    best = max(cluster.honest(), key=lambda host: host.height)
    return Outcome(
        cluster.network.trace.hexdigest(),
        cluster.events,
        len(cluster.invariants.asked),
        len(best.items),
        best.height,
        healed_us,
        len(cluster.evidence),
    )


def _heal(cluster: Cluster, limit_us: int) -> int:
    """Every honest server runs, every link between them works; liars go on lying."""
    cluster.network.heal()
    cluster.split_twins(Seeds(cluster.setting.seed).at("heal"))
    cluster.network.link = replace(
        cluster.network.link, loss=0.0, latency=Constant(5_000), bytes_per_s=0
    )
    for host in cluster.hosts:
        host.disk.fail_sync = False
        cluster.start(host.address)
    begin = cluster.network.now_ns
    cluster.append(cluster.setting.honest[0], b"healed")
    while cluster.network.now_ns < begin + limit_us * 1000:
        cluster.run(100_000)
        hosts = cluster.honest()
        if len(hosts) == len(cluster.setting.honest) and all(b"healed" in h.items for h in hosts):
            return (cluster.network.now_ns - begin) // 1000
    raise IntegrityError(f"No progress within {limit_us} us after everything healed.")


def _do(cluster: Cluster, action: Action, number: int) -> None:
    addresses = range(len(cluster.hosts))
    what, pick = action.what, action.draw % len(addresses)
    if what == "append":
        cluster.append(pick, b"item %d" % number)
    elif what == "crash":
        cluster.crash(pick)
    elif what == "restart":
        for address in addresses:
            cluster.start(address)
    elif what == "partition":
        side = [a for a in addresses if action.draw >> a & 1]
        cluster.network.partition([side, [a for a in addresses if a not in side]])
    elif what == "one_way":
        cluster.network.block(pick, action.draw // 7 % len(addresses))
    elif what == "isolate_proposer":
        _isolate_proposer(cluster)
    elif what == "heal":
        cluster.network.heal()
        cluster.split_twins(np.random.Generator(np.random.Philox(key=action.draw)))
    elif what == "split_twins":
        cluster.split_twins(np.random.Generator(np.random.Philox(key=action.draw)))
    elif what == "fail_sync":
        cluster.hosts[pick].disk.fail_sync = True
    elif what == "liar_restart":
        for address, host in enumerate(cluster.hosts):
            if host.server not in cluster.setting.honest:
                cluster.crash(address)
                cluster.start(address)


def _isolate_proposer(cluster: Cluster) -> None:
    hosts = cluster.honest()
    if hosts:
        core = max(hosts, key=lambda host: host.height).core
        alone = core.proposer(core.height, core.round)
        sides = [[], []]
        for host in cluster.hosts:
            sides[host.server == alone].append(host.address)
        cluster.network.partition(sides)


def main(words: list[str]) -> int:
    """Replay seeds; the exit code says whether all went well."""
    for word in words:
        try:
            sys.stdout.write(f"{word}: {play(draw(int(word)))}\n")
        except SwarmError as error:
            sys.stdout.write(f"{word}: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
