"""Servers that meet over real sockets: the simulation's aggregates, whoever is missing meanwhile."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from os import getpid

import numpy as np
import pytest
import torch

from consensus.archive import Archive
from consensus.baselines.orderings import PbftOrdering
from consensus.chain.store import ModelStore
from consensus.deployed import Deployed, Observed, Seen
from consensus.ordering import BftOrdering, RaftOrdering
from consensus.pofel import payload
from consensus.pofel.settings import Timeouts
from consensus.protocol import Ordered, PoFEL
from consensus.seat import BLOCK
from consensus.transport import Processes
from fedalign.core.agreement import Sealed
from fedalign.core.contracts import Context, Updates
from fedalign.core.errors import ConfigError, IntegrityError, QuorumLostError
from tests.consensus.rounds import MEAN, agree, proposals

QUICK = Timeouts(5000, 1000, 1000, 1000, 500, 500, 1000)
_numbers = count()


def pofel(n=4, **keys):
    return PoFEL(n, 0, BftOrdering(tick_ms=20), timeouts=QUICK, **keys)


def raft(n=3, **keys):
    return Ordered(n, 0, RaftOrdering(tick_ms=20), timeouts=QUICK, **keys)


class Servers:
    """Each with a chain, a socket and a folder of its own; all in this process."""

    def __init__(self, make, n, folder):
        name = f"unix:\0fedalign-test-{getpid()}-{next(_numbers)}"
        self.addresses = {i: f"{name}-{i}" for i in range(n)}
        self.make, self.n, self.folder, self.told = make, n, folder, []
        self.there = {i: self.start(i) for i in range(n)}

    def start(self, i, height=0):
        tell = lambda what, why: self.told.append((i, what, why))  # noqa: E731
        server = Deployed(self.make(), i, self.addresses, tell)
        server.open(self.folder / str(i), height)
        return server

    def ask(self, i, round_, row=True, model=bytes(32)):
        """Server i's part of a round, as `tests.consensus.rounds` draws it."""
        all_ = proposals(self.n, round_)
        mine = torch.tensor([i] if row else []).long()
        others = {j: 10.0 * (j + 1) for j in range(self.n) if j not in mine}
        own = Updates(mine, all_.rows[mine], all_.samples[mine])
        about = Context(round=round_, clients=mine, weights=own.samples.double(), absent=others)
        return self.there[i].agree(own, MEAN, about, Sealed(model, clock_s=float(round_)))

    def round(self, round_, who=None):
        who = list(self.there) if who is None else who
        with ThreadPoolExecutor(len(who)) as pool:
            return dict(zip(who, pool.map(lambda i: self.ask(i, round_), who), strict=True))

    def leave(self, i):
        self.there.pop(i).close()

    def close(self):
        for server in self.there.values():
            server.close()


@pytest.fixture
def servers(tmp_path):
    """Make servers; they are gone after the test, and so are their threads."""
    made, before = [], threading.active_count()

    def start(make, n):
        made.append(Servers(make, n, tmp_path))
        return made[-1]

    yield start
    for group in made:
        group.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(("make", "n"), [(pofel, 4), (raft, 3)])
def test_real_servers_seal_what_the_simulation_seals(servers, make, n):
    """Same rows, same rule: bit for bit the same aggregate, whatever the sockets' timing."""
    group, chain = servers(make, n), make()
    for round_ in (1, 2):
        verdicts, expected = group.round(round_), agree(chain, round_)
        assert len({v.block.hash for v in verdicts.values()}) == 1
        for i, verdict in verdicts.items():
            assert torch.equal(verdict.aggregate.vector, expected.aggregate.vector), i
            assert verdict.members == expected.members == tuple(range(n))
            assert verdict.block.root == expected.block.root
            assert len(verdict.aggregate.accepted) == 1 and verdict.measured


def test_a_server_that_was_away_learns_what_the_others_sealed(servers):
    """It stops behind height 1; the others pass two heights without it, and in height 4 it is one
    of three again. Where it was missing its weight is missing too: 10 + 20 of 60."""
    group, chain = servers(raft, 3), raft()
    group.round(1)
    group.leave(2)
    without = [group.round(r, [0, 1])[0] for r in (2, 3)]
    agree(chain, 1)
    assert [v.members for v in without] == [(0, 1)] * 2
    expected = agree(chain, 2, late=(2,))
    assert torch.equal(without[0].aggregate.vector, expected.aggregate.vector)
    group.there[2] = group.start(2, height=1)
    server = group.there[2]
    for verdict in without:
        assert server.final_without_it(5.0) is True and server.seat.mute
        mine = group.ask(2, verdict.block.height, row=False)
        assert mine.block.hash == verdict.block.hash and server.adopted
        assert torch.equal(mine.aggregate.vector, verdict.aggregate.vector)
    assert server.final_without_it(0.4) is None
    verdicts = group.round(4)
    assert all(v.members == (0, 1, 2) for v in verdicts.values())


def test_without_a_quorum_the_run_waits_and_goes_on_when_one_returns(servers, monkeypatch):
    """Two of three are needed; one alone says who is missing, how many must be there, and for how
    long it waits."""
    monkeypatch.setattr("consensus.deployed.GRACE_S", 0.3)
    group = servers(raft, 3)
    group.round(1)
    group.leave(1)
    group.leave(2)
    with ThreadPoolExecutor(2) as pool:
        alone = pool.submit(group.ask, 0, 2)
        while not group.told:
            assert not alone.done()
        group.there[1] = group.start(1, height=1)
        back = pool.submit(group.ask, 1, 2)
        assert alone.result(20).block.hash == back.result(20).block.hash
    assert [what for i, what, _ in group.told if i == 0] == ["paused", "resumed"]
    sentence = group.told[0][2]
    assert "1 of 3 edge servers hear each other, 2 must: 1, 2 are missing" in sentence
    assert "waits up to 600 s" in sentence


def test_nobody_waits_for_ever_and_the_height_is_begun_again(servers, monkeypatch):
    """After wait_s the round ends with a sentence; its height is still to come, and comes."""
    group = servers(lambda: raft(processes=Processes(wait_s=0.4)), 3)
    group.round(1)
    group.leave(1)
    group.leave(2)
    with pytest.raises(QuorumLostError, match=r"nobody came back in 0\.4 s: start them again"):
        group.ask(0, 2)
    assert group.there[0].chain.state.height == 1
    group.leave(0)
    group.there = {i: group.start(i, height=1) for i in range(3)}
    assert {v.block.height for v in group.round(2).values()} == {2}


def test_servers_that_begin_from_different_models_end_with_a_sentence(servers):
    """Two of four against two: no three can ever sign the same block."""
    group, models = servers(pofel, 4), [bytes(32), b"1" * 32] * 2
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(group.ask, i, 1, True, model) for i, model in enumerate(models)]
        for i, job in enumerate(jobs):
            others = ", ".join(str(j) for j in range(4) if j % 2 != i % 2)
            with pytest.raises(
                IntegrityError, match=rf"^Edge servers {others} begin round 1 .* {i},"
            ):
                job.result(60)


def test_whoever_records_replays_what_was_sealed_and_finds_a_changed_model(servers):
    """Observed decides once more on the servers' models, from any of them."""
    group, watched = servers(raft, 3), raft()
    verdict = group.round(1)[1]
    home, altered = group.folder / "1", []

    def source(height):
        def model(root):
            values = payload.from_bytes(ModelStore(home / "models").get(root))[0]
            return values + np.int64(bool(altered))

        return Seen(Archive(home).read(height), model, verdict.costs)

    observer = Observed(watched, source, lambda: [s.word(Sealed()) for s in group.there.values()])
    observer.open(None, 0)
    altered.append(True)
    rows = proposals(3)
    about = Context(round=1, clients=rows.clients, weights=rows.samples.double())
    with pytest.raises(IntegrityError, match="the models give another aggregate"):
        observer.agree(rows, MEAN, about, Sealed(clock_s=1.0))
    altered.clear()
    seen = observer.agree(rows, MEAN, about, Sealed(clock_s=1.0))
    assert seen.block == replace(verdict.block, signers=seen.block.signers)
    assert torch.equal(seen.aggregate.vector, verdict.aggregate.vector)
    assert observer.close(Sealed()).signers == (0, 1, 2)


def test_orders_without_real_servers_are_refused():
    with pytest.raises(ConfigError, match="not a PbftOrdering: take consensus=pofel"):
        Ordered(4, 0, PbftOrdering(), transport="processes")
    with pytest.raises(ConfigError, match="one of simulated, processes; got 'tcp'"):
        raft(transport="tcp")


def test_a_server_that_dies_behind_its_commitment_says_the_same_again(servers):
    """Its log and its key give the same words after a restart: nobody finds it contradicting
    itself, no vote is cast twice, and its model is in the block."""
    patient = replace(QUICK, train_ms=60_000, commit_ms=60_000)
    group = servers(lambda: PoFEL(4, 0, BftOrdering(tick_ms=20), timeouts=patient), 4)
    with ThreadPoolExecutor(4) as pool:
        early = {i: pool.submit(group.ask, i, 1) for i in (1, 2, 3)}
        dying = group.there[3]
        until(lambda: len(dying.chain.members[3].machine.state.commits) == 3)
        dying.seat._failed(RuntimeError("killed"))
        with pytest.raises(RuntimeError, match="killed"):
            early[3].result()
        group.leave(3)
        group.there[3] = group.start(3)
        verdicts = [*(pool.submit(group.ask, i, 1) for i in (0, 3)), early[1], early[2]]
        verdicts = [verdict.result(30) for verdict in verdicts]
    assert len({verdict.block.hash for verdict in verdicts}) == 1
    assert all(v.members == (0, 1, 2, 3) and v.strikes == () for v in verdicts)
    expected = agree(pofel(), 1)
    assert torch.equal(verdicts[1].aggregate.vector, expected.aggregate.vector)


def until(happened, limit_s=30.0):
    end = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_garbage_of_a_member_stops_nobody(servers):
    """Server 3 has bytes ordered that are no entry; the others never put them to the vote, and a
    forged block of it is not believed."""
    group = servers(pofel, 4)
    liar = group.there[3].seat
    orders = [group.there[i].seat._order._node for i in (0, 1, 2)]
    for _ in range(2):
        liar._loop.call_soon_threadsafe(liar._order.propose, b"no entry at all")
    liar._loop.call_soon_threadsafe(liar._everybody, BLOCK, 1, b"no record")
    verdicts = group.round(1, [0, 1, 2])
    assert len({v.block.hash for v in verdicts.values()}) == 1
    assert all(order.refused["items"] == 1 for order in orders)
    assert all(v.strikes == () for v in verdicts.values())
