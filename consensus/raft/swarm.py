"""Swarm: every seed draws its own cluster and its own mix of faults; then all heals and must move.

Replay one seed: python -m consensus.raft.swarm SEED

Paper: Groce et al., "Swarm Testing", ISSTA 2012.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from consensus.network.links import Constant, Latency, Link, LogNormal, Pareto
from consensus.raft.cluster import Cluster, Setting
from consensus.raft.confchange import ConfChange, Op, Transition
from consensus.raft.config import RaftConfig
from consensus.raft.history import violation
from fedalign.core.errors import FedalignError, IntegrityError
from fedalign.core.seeds import Seeds

HEAL_US = 60_000_000  # without pre-vote on slow disks elections may fail for 20 s in a row
FAULTS = (
    "crash", "restart", "partition", "one_way", "heal", "transfer", "change", "fail_sync",
    "isolate_leader", "forget",
)  # fmt: skip


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
    """A schedule that went well. healed_us: from the end of all faults to an append everywhere."""

    trace: str
    events: int
    operations: int
    committed: int
    terms: int
    healed_us: int


class SwarmError(IntegrityError):
    """A schedule broke a rule; the text ends with the command that replays it."""


def draw(seed: int, duration_us: int = 3_000_000) -> Schedule:
    """The schedule of a seed."""
    rng = Seeds(seed).at("swarm")
    config = RaftConfig(
        election_tick=int(rng.integers(3, 11)),
        pre_vote=bool(rng.random() < 0.7),
        check_quorum=bool(rng.random() < 0.7),
        max_message_bytes=int(rng.choice([1, 64, 1 << 20])),
        max_inflight_messages=int(rng.choice([1, 4, 256])),
        max_inflight_bytes=int(rng.choice([0, 128, 1 << 20])),
        max_uncommitted_bytes=int(rng.choice([200, 1 << 20])),
        max_committed_bytes_per_ready=int(rng.choice([1, 1 << 20])),
        proposal_forwarding=bool(rng.random() < 0.5),
        commit_broadcast=bool(rng.random() < 0.7),
        keep_tail=int(rng.choice([0, 3, 50])),
        snapshot_retry_tick=10,
    )
    servers = int(rng.choice([1, 2, 3, 3, 4, 5, 5]))
    setting = Setting(
        seed=seed,
        servers=servers,
        config=config,
        link=_link(rng),
        disk=(Constant(0), Constant(2_000), LogNormal(20_000, 1.0))[int(rng.integers(3))],
        skew_percent=tuple(int(x) for x in rng.integers(50, 201, servers))
        if rng.random() < 0.3
        else (),
        snapshot_every=int(rng.choice([0, 5, 20])),
    )
    return Schedule(setting, _actions(rng, duration_us), duration_us, HEAL_US)


def play(schedule: Schedule) -> Outcome:
    """Run a schedule, heal, demand progress and a linearizable history; SwarmError if not."""
    try:
        return _play(schedule)
    except FedalignError as error:
        raise SwarmError(
            f"{error} Replay: python -m consensus.raft.swarm {schedule.setting.seed}"
        ) from error


def shrink(schedule: Schedule) -> Schedule:
    """A smaller schedule that still fails: cut the end, then leave out actions one by one."""
    for end in range(1, len(schedule.actions) + 1):
        shorter = replace(schedule, actions=schedule.actions[:end])
        if _fails(shorter):
            schedule = shorter
            break
    for action in reversed(schedule.actions):
        fewer = replace(schedule, actions=tuple(a for a in schedule.actions if a is not action))
        if _fails(fewer):
            schedule = fewer
    return schedule


def _fails(schedule: Schedule) -> bool:
    try:
        _play(schedule)
    except FedalignError:
        return True
    return False


def _link(rng: np.random.Generator) -> Link:
    latency: tuple[Latency, ...] = (Constant(5_000), LogNormal(20_000, 1.0), Pareto(5_000, 1.2))
    return Link(
        latency[int(rng.integers(3))],
        loss=float(rng.choice([0.0, 0.02, 0.2])),
        duplicate=float(rng.choice([0.0, 0.1])),
        reorder=bool(rng.random() < 0.7),
        bytes_per_s=int(rng.choice([0, 100_000])),
    )


def _actions(rng: np.random.Generator, duration_us: int) -> tuple[Action, ...]:
    """Each seed uses only some kinds of faults, so that rare mixes come up too."""
    kinds = [fault for fault in FAULTS if rng.random() < 0.4]
    actions = []
    for fault in kinds:
        for _ in range(int(rng.integers(1, 6))):
            actions.append((int(rng.integers(duration_us)), fault))
    for what, count in (("append", 60), ("read", 10)):
        actions += [(int(at), what) for at in rng.integers(0, duration_us, count)]
    return tuple(Action(at, what, int(rng.integers(1 << 30))) for at, what in sorted(actions))


def _play(schedule: Schedule) -> Outcome:
    cluster = Cluster(schedule.setting)
    for number, action in enumerate(schedule.actions):
        cluster.run(max(0, action.at_us - cluster.network.now_ns // 1000))
        _do(cluster, action, number)
    cluster.run(max(0, schedule.duration_us - cluster.network.now_ns // 1000))
    healed_us = _heal(cluster, schedule.heal_us)
    hosts = [host for host in cluster.hosts.values() if host.alive]
    cluster.invariants.everything(host.core for host in hosts)
    best = max(hosts, key=lambda host: host.machine.index)
    reason = violation(cluster.operations, best.machine.lists)
    if reason:
        raise IntegrityError(f"Linearizability: {reason}.")
    return Outcome(
        cluster.network.trace.hexdigest(),
        cluster.events,
        len(cluster.operations),
        best.machine.index,
        max(host.core.term for host in hosts),
        healed_us,
    )


def _heal(cluster: Cluster, limit_us: int) -> int:
    """Every server runs, every link works: a new append must reach every voter. How long it took."""
    cluster.network.heal()
    cluster.network.link = replace(
        cluster.network.link, loss=0.0, latency=Constant(5_000), bytes_per_s=0
    )
    for id in sorted(cluster.hosts):
        cluster.hosts[id].disk.fail_sync = False
        cluster.start(id)
    begin = cluster.network.now_ns
    attempt = 0
    while cluster.network.now_ns < begin + limit_us * 1000:
        cluster.run(100_000)
        attempt += 1
        leader = cluster.leader()
        if leader is None:
            continue
        cluster.append(leader.id, "healed", str(attempt))
        cluster.run(200_000)
        voters = [cluster.hosts[id] for id in leader.core.conf.voters] if leader.alive else []
        if voters and all("healed" in voter.machine.lists for voter in voters):
            return (cluster.network.now_ns - begin) // 1000
    raise IntegrityError(f"No progress within {limit_us} us after everything healed.")


def _do(cluster: Cluster, action: Action, number: int) -> None:
    ids = sorted(cluster.hosts)
    what, pick = action.what, ids[action.draw % len(ids)]
    if what == "append":
        leader = cluster.leader()
        target = leader.id if leader is not None and action.draw % 4 else pick
        cluster.append(target, f"k{action.draw % 3}", str(number))
    elif what == "read":
        cluster.read(pick, f"k{action.draw % 3}")
    elif what == "crash":
        cluster.crash(pick)
    elif what == "restart":
        for id in ids:
            cluster.start(id)
    elif what == "partition":
        side = [id for position, id in enumerate(ids) if action.draw >> position & 1]
        cluster.network.partition([side, [id for id in ids if id not in side]])
    elif what == "one_way":
        cluster.network.block(pick, ids[action.draw // 7 % len(ids)])
    elif what == "isolate_leader":
        leader = cluster.leader()
        if leader is not None:
            cluster.network.partition([[leader.id], [id for id in ids if id != leader.id]])
    elif what == "heal":
        cluster.network.heal()
    elif what == "transfer":
        cluster.transfer(pick)
    elif what == "change":
        _change(cluster, action.draw)
    elif what == "fail_sync":
        cluster.hosts[pick].disk.fail_sync = True
    elif what == "forget" and cluster.hosts[pick].alive:
        cluster.hosts[pick].core.forget_leader()


def _change(cluster: Cluster, draw: int) -> None:
    """Add a newcomer, or move servers between voting, learning and being gone."""
    rng = np.random.Generator(np.random.Philox(key=draw))
    ids = sorted(cluster.hosts)
    if len(ids) < 7 and rng.random() < 0.5:
        ids.append(ids[-1] + 1)
        cluster.start(ids[-1])
    chosen = rng.permutation(ids)[: int(rng.integers(1, 4))]
    changes = tuple((Op(int(rng.choice([0, 0, 1, 2]))), int(server)) for server in chosen)
    cluster.change(ConfChange(changes, Transition(int(rng.integers(2)))))


def main(words: list[str]) -> int:
    """Replay seeds; the exit code says whether all went well."""
    for word in words:
        try:
            sys.stdout.write(f"{word}: {play(draw(int(word)))}\n")
        except SwarmError as error:
            sys.stdout.write(f"{word}: {error}\n{shrink(draw(int(word)))}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
