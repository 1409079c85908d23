"""Swarms of fault schedules: invariants after every event, then progress and a possible history.

A failing seed names its command: `python -m consensus.raft.swarm SEED`.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from consensus.network.links import Constant, Link, LogNormal
from consensus.raft import leading
from consensus.raft.cluster import Cluster, Setting
from consensus.raft.history import violation
from consensus.raft.swarm import SwarmError, draw, main, play, shrink
from fedalign.core.errors import IntegrityError
from tests.consensus.raft.bench import Trio

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("block", range(5))
def test_thirty_seeds(block):
    for seed in range(30 * block, 30 * block + 30):
        play(draw(seed))


@pytest.mark.slow
def test_a_thousand_more_seeds():
    for seed in range(10_000, 11_000):
        play(draw(seed))


@pytest.mark.slow
def test_longer_schedules():
    for seed in range(20_000, 20_060):
        play(draw(seed, duration_us=20_000_000))


def test_a_seed_has_one_trace_in_every_process_and_hash_seed():
    expected = play(draw(7)).trace
    for hash_seed in ("0", "12345"):
        answer = subprocess.run(
            [sys.executable, "-m", "consensus.raft.swarm", "7"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
        )
        assert expected in answer.stdout, answer.stderr


def test_other_seeds_have_other_traces():
    assert len({play(draw(seed)).trace for seed in range(5)}) == 5


def test_a_failure_names_its_command_and_shrinks(monkeypatch, capsys):
    """A leader that never says what is committed: no progress, even with no faults at all."""
    monkeypatch.setattr(leading, "maybe_commit", lambda raft: False)
    schedule = replace(draw(4), heal_us=2_000_000)
    with pytest.raises(SwarmError, match=r"Replay: python -m consensus\.raft\.swarm 4$"):
        play(schedule)
    assert len(shrink(schedule).actions) <= 1
    assert main(["4"]) == 1 and "No progress" in capsys.readouterr().out


# ---------------------------------------------------------------------- plain clusters


def cluster(**more):
    config = {"link": Link(LogNormal(1000, 0.3)), "tick_us": 10_000, "disk": Constant(300)}
    return Cluster(Setting(**{**config, **more}))


def test_one_leader_is_elected_and_everyone_applies_the_same():
    some = cluster(seed=3, servers=5)
    some.run(1_000_000)
    for number in range(50):
        some.append(some.leader().id, "k", str(number))
        some.run(5_000)
    some.run(100_000)
    lists = [host.machine.lists["k"] for host in some.hosts.values()]
    assert all(each == [str(number) for number in range(50)] for each in lists)
    assert len({host.machine.digest for host in some.hosts.values()}) == 1
    assert violation(some.operations, {"k": lists[0]}) == ""


def test_restarts_find_everything_that_was_acknowledged():
    some = cluster(seed=4, snapshot_every=7)
    some.run(1_000_000)
    for number in range(30):
        some.append(some.leader().id, "k", str(number))
        some.run(50_000)
    for id in range(3):
        some.crash(id)
    for id in range(3):
        some.start(id)
    some.run(2_000_000)
    assert some.leader() is not None
    assert [h.machine.lists["k"] for h in some.hosts.values()] == [[str(n) for n in range(30)]] * 3


@pytest.mark.parametrize("servers", [4, 7, 10, 16, 31])
def test_message_count_of_one_entry(servers):
    """One append and one answer per follower, 2(n - 1): 6 for n = 4; commit rides along."""
    cores = Trio(servers, commit_broadcast=False)
    cores.cores[0].campaign()
    cores.settle()
    cores.cores[0].propose(b"x")
    assert cores.settle() == 2 * (servers - 1)
    assert cores.cores[0].log.committed == 2


def test_elections_end_within_four_time_outs():
    """Five servers, no losses: a leader within 4 election time-outs in >= 99 % of 100 seeds."""
    slow = 0
    for seed in range(100):
        some = Cluster(Setting(seed=seed, servers=5, link=Link(Constant(5_000)), tick_us=10_000))
        some.run(4 * 10 * 10_000)
        slow += some.leader() is None
    assert slow <= 1


def test_clocks_may_run_at_half_and_double_speed():
    some = cluster(servers=3, skew_percent=(50, 100, 200))
    some.run(3_000_000)
    some.append(some.leader().id, "k", "1")
    some.run(300_000)
    assert all(host.machine.lists == {"k": ["1"]} for host in some.hosts.values())


@pytest.mark.parametrize("lost", [(0, 1), (1, 4), (2, 3)])
def test_what_is_committed_survives_the_loss_of_any_minority_of_disks(lost):
    """Two of five are gone for good, the leader perhaps among them; the others know it all."""
    some = cluster(seed=5, servers=5, snapshot_every=6)
    some.run(1_000_000)
    for number in range(20):
        some.append(some.leader().id, "k", str(number))
        some.run(20_000)
    for id in lost:
        some.crash(id)
    some.run(2_000_000)
    some.append(some.leader().id, "k", "after")
    some.run(500_000)
    left = [host.machine.lists["k"] for host in some.hosts.values() if host.alive]
    assert left == [[*(str(number) for number in range(20)), "after"]] * 3


def test_a_server_whose_disk_fails_stops_and_may_come_back():
    some = cluster()
    some.run(1_000_000)
    leader = some.leader()
    leader.disk.fail_sync = True
    some.append(leader.id, "k", "1")
    some.run(10_000)
    assert not leader.alive
    some.run(1_000_000)
    assert some.leader().id != leader.id
    some.start(leader.id)
    some.append(some.leader().id, "k", "2")
    some.run(1_000_000)
    assert leader.machine.lists["k"][-1] == "2"


# ---------------------------------------------------------------------- the checks themselves


def test_invariants_notice_a_second_leader_of_a_term():
    some = cluster()
    some.run(1_000_000)
    leader = some.leader()
    other = next(host.core for host in some.hosts.values() if host is not leader)
    other.role = leader.core.role
    with pytest.raises(IntegrityError, match="ElectionSafetyInv"):
        some.invariants.after(other)


def test_invariants_notice_a_changed_entry_in_the_middle():
    some = cluster()
    some.run(1_000_000)
    for number in range(5):
        some.append(some.leader().id, "k", str(number))
        some.run(20_000)
    cores = [host.core for host in some.hosts.values()]
    some.invariants.everything(cores)
    cores[1].log.entries[2] = cores[1].log.entries[2]._replace(data=b"k=other")
    with pytest.raises(IntegrityError, match="LogInv: entry 3 of server 1"):
        some.invariants.everything(cores)


def test_invariants_notice_a_commit_without_a_quorum():
    some = cluster()
    some.run(1_000_000)
    core = some.leader().core
    core.propose(b"k=1")
    core.log.commit_to(core.log.last)
    with pytest.raises(IntegrityError, match="QuorumLogInv"):
        some.invariants.after(core)
