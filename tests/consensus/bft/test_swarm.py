"""Swarms with liars: agreement after every event, progress after healing, liars named.

A failing seed names its command: `python -m consensus.bft.swarm SEED`.
"""

from dataclasses import replace

import pytest

from consensus.bft import core, rounds, votes
from consensus.bft.accountability import Amnesia, culprits
from consensus.bft.cluster import Cluster, Setting
from consensus.bft.core import Bft
from consensus.bft.messages import NIL, NO_ROUND, Equivocation, Step
from consensus.bft.swarm import SwarmError, draw, main, play
from consensus.bft.votes import Votes
from consensus.network.links import Constant, Link
from fedalign.core.errors import IntegrityError
from tests.consensus.bft.bench import A, B, precommits, prevotes, vote


@pytest.mark.parametrize("block", range(3))
def test_six_seeds(block):
    for seed in range(6 * block, 6 * block + 6):
        play(draw(seed))


@pytest.mark.slow
def test_a_hundred_more_seeds():
    for seed in range(10_000, 10_100):
        play(draw(seed))


def test_a_seed_has_one_trace():
    assert play(draw(5)).trace == play(draw(5)).trace != play(draw(6)).trace


def test_liars_take_part_and_are_named():
    """Among 40 seeds most have liars; honest servers hold evidence in many."""
    settings = [draw(seed).setting for seed in range(40)]
    assert sum(len(s.honest) < s.servers for s in settings) > 10
    assert any(play(draw(seed)).evidence for seed in range(6))


# ---------------------------------------------------------------------- bugs put in on purpose


def forget_the_lock(patch):
    lock = Bft.lock
    patch.setattr(Bft, "lock", lambda self, round, batch, locked: lock(self, round, batch, False))


def decide_with_too_few(patch):
    def has_quorum(self, step, round, digest):
        return self.count(step, round, digest) >= self.n // 2

    patch.setattr(Votes, "has_quorum", has_quorum)


def forget_what_was_signed(patch):
    patch.setattr(core.journal, "_forget_before", lambda found, height: None)
    read = core.journal.read

    def forgetful(records):
        found = read(records)
        found.signed, found.locks = {}, []
        return found

    patch.setattr(core.journal, "read", forgetful)


def believe_any_round_of_a_proposal(patch):
    """A proposer's claim of an older quorum is taken for one."""
    has_quorum = Votes.has_quorum

    def gullible(self, step, round, digest):
        return step is Step.PREVOTE or has_quorum(self, step, round, digest)

    patch.setattr(Votes, "has_quorum", gullible)


def never_next_round(patch):
    patch.setattr(rounds, "_on_precommits", lambda core: False)
    patch.setattr(votes.Votes, "later_round", lambda self, round: None)


@pytest.mark.parametrize(
    ("bug", "name"),
    [
        (decide_with_too_few, "CertificateInv|AgreementInv|OneVoteInv|LockInv"),
        (forget_the_lock, "LockInv|AgreementInv"),
        (forget_what_was_signed, "OneVoteInv|EvidenceInv"),
        (believe_any_round_of_a_proposal, "LockInv|AgreementInv|CertificateInv"),
        (never_next_round, "No progress"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_swarm_notices(bug, name, monkeypatch):
    bug(monkeypatch)
    with pytest.raises(SwarmError, match=rf"^({name})"):
        for seed in range(60):
            schedule = draw(seed)
            play(replace(schedule, heal_us=8_000_000) if name == "No progress" else schedule)


def test_a_failure_names_its_command(monkeypatch, capsys):
    decide_with_too_few(monkeypatch)
    failing = next(seed for seed in range(60) if main([str(seed)]))
    assert f"Replay: python -m consensus.bft.swarm {failing}" in capsys.readouterr().out


# ---------------------------------------------------------------------- plain clusters


def ordered(cluster, count, servers):
    for number in range(count):
        cluster.append(number % servers, b"item %d" % number)
        cluster.run(60_000)
    cluster.run(500_000)


@pytest.mark.parametrize("n", [4, 7, 10])
def test_message_count_of_one_height(n):
    """Proposal to n - 1, two votes of n servers to n - 1 each: 2n(n - 1) + (n - 1)."""
    cluster = Cluster(Setting(servers=n, link=Link(Constant(1_000))))
    cluster.run(100_000)
    before = cluster.network.counters.sent
    cluster.append(0, b"x")
    cluster.run(100_000)
    items = n - 1
    assert cluster.network.counters.sent - before - items == 2 * n * (n - 1) + n - 1
    assert all(host.items == [b"x"] for host in cluster.hosts)


def test_silent_liars_cost_time_but_not_order():
    cluster = Cluster(Setting(servers=7, tick_us=10_000))
    for silent in (2, 5):
        cluster.crash(silent)
    ordered(cluster, 10, 2)
    assert len({host.digest for host in cluster.honest()}) == 1
    assert all(len(host.items) == 10 for host in cluster.honest())


def test_without_a_quorum_nothing_is_decided_and_after_healing_it_is():
    cluster = Cluster(Setting(tick_us=10_000))
    cluster.network.partition([[0, 1], [2, 3]])
    cluster.append(0, b"x")
    cluster.run(3_000_000)
    assert all(host.height == 0 for host in cluster.hosts)
    cluster.network.heal()
    cluster.run(3_000_000)
    assert all(host.items == [b"x"] for host in cluster.hosts)


def test_one_pair_of_twins_among_four_is_harmless_and_found_out():
    cluster = Cluster(Setting(twins=(3,), tick_us=10_000))
    ordered(cluster, 20, 3)
    assert len({host.digest for host in cluster.honest()}) == 1
    named = {found.first.voter for found in cluster.evidence}
    assert named == {3}


# ---------------------------------------------------------------------- f + 1 liars


def test_two_pairs_of_twins_fork_four_servers_and_both_are_named():
    """Servers 2 and 3 play with 0 and, as their doubles, with 1: two quorums of three."""
    cluster = Cluster(Setting(twins=(2, 3), tick_us=10_000))
    cluster.network.heal()
    cluster.network.partition([[0, 2, 3], [1, 4, 5]])
    cluster.append(0, b"left")
    cluster.append(1, b"right")
    with pytest.raises(IntegrityError, match="AgreementInv"):
        cluster.run(2_000_000)
    proofs = culprits(cluster.invariants.votes[1], 4)
    assert sorted(proofs) == [2, 3]
    assert all(isinstance(proof, Equivocation) for proof in proofs.values())


def test_a_fork_over_two_rounds_convicts_amnesiacs():
    """A decided in round 0 by 0, 2, 3; B in round 1 by 1, 2, 3, who had no reason to leave A."""
    votes = [
        *prevotes(0, A, 0, 2, 3), *precommits(0, A, 0, 2, 3),
        *prevotes(1, B, 1, 2, 3), *precommits(1, B, 1, 2, 3),
    ]  # fmt: skip
    proofs = culprits(votes, 4)
    assert sorted(proofs) == [2, 3]
    assert all(isinstance(proof, Amnesia) for proof in proofs.values())


def test_a_quorum_of_prevotes_since_the_lock_excuses():
    """2 was locked on A in round 0, saw a quorum for B in round 1, prevoted B in round 2."""
    votes = [
        *precommits(0, A, 2), *prevotes(1, B, 0, 1, 3),
        vote(Step.PREVOTE, 2, B, 2, pol=1), *prevotes(1, NIL, 2),
    ]  # fmt: skip
    assert culprits(votes, 4) == {}
    older = [*precommits(1, A, 2), *prevotes(0, B, 0, 1, 3), vote(Step.PREVOTE, 2, B, 2, pol=0)]
    assert sorted(culprits(older, 4)) == [2]


def test_honest_rounds_convict_nobody():
    votes = [*prevotes(0, A, 0, 1), *prevotes(0, NIL, 2, 3), *precommits(0, NIL, 0, 1, 2, 3)]
    assert culprits(votes, 4) == {} and NO_ROUND == -1
