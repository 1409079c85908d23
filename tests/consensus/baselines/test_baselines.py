"""PoW, Clique, PBFT, HotStuff (and Raft beside them): exact message counts, order, failures."""

import numpy as np
import pytest

from consensus.baselines._blocktree import GENESIS, Block, Tree
from consensus.baselines.clique import Clique
from consensus.baselines.hotstuff import Certificate
from consensus.baselines.line import Line
from consensus.baselines.orderings import (
    CliqueOrdering,
    HotStuffOrdering,
    PbftOrdering,
    PowOrdering,
)
from consensus.baselines.pbft import Pbft
from consensus.network.links import Link, LogNormal
from consensus.ordering import RaftOrdering
from consensus.protocol import Ordered, PoFEL
from consensus.raft.config import RaftConfig
from fedalign.core.errors import ConfigError, QuorumLostError
from tests.consensus.rounds import agree

SLOW = 1e6  # ms between ticks: no heartbeat and no time-out falls into a count
QUIET = RaftConfig(commit_broadcast=False)
ALL = [RaftOrdering(), PbftOrdering(), HotStuffOrdering(), CliqueOrdering(), PowOrdering()]
BFT = [PbftOrdering(), HotStuffOrdering()]
SIZES = (4, 7, 10, 16, 31)


def name(ordering):
    return type(ordering).__name__


def counted(ordering, n):
    """Messages and delays (of 1 ms) of one entry at a quiet leader, until nothing is on its way."""
    line = Line(ordering, n)
    line.settle()
    line.idle(1)
    before, began = line.messages, line.now_s
    line.ordering.propose(line.cores[0], [b"entry"])
    line._do(0, lambda core: None)
    while len(line.logs[0]) == 0:
        line._run(lambda: True, 1)
        event = line.network.next()
        if hasattr(event, "payload"):
            line._arrive(event)
    delays = round((line.now_s - began) * 1000)
    line.idle(1)
    return line.messages - before, delays


@pytest.mark.parametrize("n", SIZES)
def test_O_N_pbft_sends_2n_n_minus_1(n):
    assert counted(PbftOrdering(SLOW), n) == (2 * n * (n - 1), 3)


@pytest.mark.parametrize("n", SIZES)
def test_O_N_hotstuff_sends_7_n_minus_1(n):
    """Four broadcasts and three votes; the leader itself decides after the third vote."""
    assert counted(HotStuffOrdering(SLOW), n) == (7 * (n - 1), 6)


@pytest.mark.parametrize("n", SIZES)
def test_O_N_raft_sends_2_n_minus_1(n):
    assert counted(RaftOrdering(50.0, RaftConfig(commit_broadcast=False, heartbeat_tick=10_000,
                                                 election_tick=20_000)), n) == (2 * (n - 1), 2)  # fmt: skip


@pytest.mark.parametrize("n", SIZES)
def test_O_N_clique_sends_n_minus_1_per_block(n):
    """The entry was told to everybody before; the block itself is one broadcast."""
    line = Line(CliqueOrdering(50.0, period=2), n)
    for core in line.cores:
        core.remember([b"entry"])
    line._run(lambda: line.cores[1].tree.height(line.cores[1].tree.tip) == 1, 5)
    assert line.messages == n - 1


@pytest.mark.parametrize("ordering", ALL, ids=name)
def test_all_servers_have_the_same_order(ordering):
    line = Line(ordering, 4, seed=3, link=Link(LogNormal(2000, 0.7)))
    line.settle()
    for k in range(6):
        line.order(f"entry {k}".encode(), at=k % 4)
    shortest = min(map(len, line.logs))
    assert shortest >= 6 and len({tuple(log[:shortest]) for log in line.logs}) == 1
    assert len(set(line.logs[0])) == len(line.logs[0])  # nothing twice


@pytest.mark.parametrize("ordering", [RaftOrdering(), *BFT, CliqueOrdering(), PowOrdering()],
                         ids=name)  # fmt: skip
def test_it_stands_the_first_leader_s_absence(ordering):
    line = Line(ordering, 4, down=(0,))
    line.settle()
    line.order(b"one", at=1)
    line.order(b"two", at=2)
    assert all(line.logs[i][:2] == [b"one", b"two"] for i in (1, 2, 3))


@pytest.mark.parametrize("ordering", [RaftOrdering(), *BFT], ids=name)
def test_beyond_its_tolerance_it_stops(ordering):
    line = Line(ordering, 4, down=(2, 3))
    with pytest.raises(QuorumLostError):
        line.settle(5.0)
        line.order(b"one", at=0, limit_s=30.0)


def test_clique_needs_a_majority_of_its_authorities():
    """Each may sign one in floor(n/2) + 1 blocks, so two of four run out of turns."""
    line = Line(CliqueOrdering(), 4, down=(2, 3))
    with pytest.raises(QuorumLostError):
        line.order(b"one", at=0, limit_s=60.0)


def test_proof_of_work_goes_on_with_one_miner():
    assert Line(PowOrdering(), 4, down=(1, 2, 3)).order(b"one", at=0) > 0


@pytest.mark.parametrize("ordering", [*ALL[:-1], PowOrdering(50.0, 1000.0, depth=2)], ids=name)
@pytest.mark.parametrize("kind", [Ordered, PoFEL])
def test_a_chain_runs_over_it(kind, ordering):
    chain, plain = kind(4, ordering=ordering), kind(4, ordering=RaftOrdering())
    for made in (chain, plain):
        made.open(None)
    assert [agree(chain, r).block.root for r in (1, 2)] == [
        agree(plain, r).block.root for r in (1, 2)
    ]


def test_a_pofel_chain_over_pbft_stands_a_silent_primary():
    chain = PoFEL(4, ordering=PbftOrdering(), down=(0,))
    chain.open(None)
    assert agree(chain).members == (1, 2, 3)


# ---------------------------------------------------------------- the cores


def test_a_two_faced_pbft_primary_cannot_have_two_orders():
    """The primary tells server 1 one thing and servers 2, 3 another: no quorum of 3 for both."""
    cores = [Pbft(i, 4) for i in range(4)]
    for i, batch in ((1, (b"a",)), (2, (b"b",)), (3, (b"b",))):
        cores[i].on_preprepare(0, 0, 1, batch)
    for _ in range(4):
        for i in (1, 2, 3):
            for message in cores[i].ready().messages:
                for to in (1, 2, 3):
                    if to != i:
                        cores[to].step(i, message.body)
    assert all(core.delivered == 0 for core in cores)


def test_pbft_keeps_what_may_be_committed_when_the_primary_changes():
    """Server 3 committed number 1 alone; the next view orders the same batch under it."""
    cores = [Pbft(i, 4) for i in range(4)]
    cores[0].propose(b"kept")
    sent = [cores[0].ready().messages]
    for message in sent[0]:
        for i in (1, 2, 3):
            cores[i].step(0, message.body)
    prepares = {i: cores[i].ready().messages for i in (1, 2, 3)}
    for i, messages in prepares.items():
        for message in messages:
            for to in (1, 2, 3):
                if to != i:
                    cores[to].step(i, message.body)
    commits = {i: cores[i].ready().messages for i in (1, 2, 3)}
    for i in (1, 2):
        for message in commits[i]:
            cores[3].step(i, message.body)
    assert cores[3].ready().committed == [b"kept"]
    for i in (1, 2):
        cores[i].remember([b"other"])
        for _ in range(20):
            cores[i].tick()
    for _ in range(6):
        for i in (1, 2, 3):
            for message in cores[i].ready().messages:
                for to in (1, 2, 3):
                    if to != i:
                        cores[to].step(i, message.body)
    assert cores[1].view >= 1 and cores[1].delivered >= 1
    assert cores[1]._final[1] == cores[3]._final[1] == (b"kept",)


def test_hotstuff_takes_no_certificate_without_a_quorum():
    core = HotStuffOrdering().core(1, 4, None)
    core.on_propose(0, 0, 1, (b"a",), None)
    assert [m.body[0] for m in core.ready().messages] == ["vote"]
    (what,) = core._voted
    forged = Certificate(*what, ((0, bytes(65)), (1, bytes(65)), (2, bytes(65))))
    core.on_certified(0, forged)
    few = Certificate(*what, ((1, core._key.sign(bytes(32))),))
    core.on_certified(0, few)
    assert not core.ready().messages and core.height == 0


def test_clique_refuses_who_signed_a_moment_ago_and_forged_blocks():
    keys = CliqueOrdering().core(0, 4, None)
    one: Clique = CliqueOrdering().core(1, 4, None)
    for _ in range(8):
        one.remember([b"x"])
        one.tick()
    block = next(m.body[1] for m in one.ready().messages if m.body[0] == "block")
    other: Clique = CliqueOrdering().core(2, 4, None)
    other.on_block(1, block._replace(batch=(b"y",)))
    other.on_block(1, block._replace(weight=3))
    assert other.tree.tip == GENESIS
    other.on_block(1, block)
    assert other.tree.tip == block.hash
    again = Block(block.hash, 2, 1, 1, ())
    other.on_block(1, again._replace(proof=bytes(65)))
    assert other.tree.tip == block.hash and keys.id == 0


def test_a_block_without_work_is_refused():
    miner = PowOrdering(bits=16).core(0, 4, np.random.default_rng(0))
    miner.on_block(1, Block(GENESIS, 1, 1, 1, (), bytes(8)))
    assert miner.tree.tip == GENESIS


def test_the_heavier_branch_wins_and_says_what_it_cost():
    """a1 a2 against b1 b2 b3: two blocks are taken back."""
    tree = Tree()
    a1 = Block(GENESIS, 1, 0, 1, (b"a1",))
    a2 = Block(a1.hash, 2, 0, 1, (b"a2",))
    b1 = Block(GENESIS, 1, 1, 1, (b"b1",))
    b2 = Block(b1.hash, 2, 1, 1, (b"b2",))
    b3 = Block(b2.hash, 3, 1, 1, (b"b3",))
    for block in (a1, a2):
        assert tree.add(block)
    assert [b.batch for b in tree.bury(1)] == [(b"a1",)]
    assert not tree.add(b3) and not tree.add(b2)  # they wait for their parents
    assert tree.tip == a2.hash and tree.add(b1) and tree.tip == b3.hash
    assert (tree.forks, tree.reorganised) == (2, 2)
    assert [b.batch for b in tree.bury(1)] == [(b"b1",), (b"b2",)] and tree.reverted == 1


def test_ticks_are_positive():
    with pytest.raises(ConfigError, match="tick_ms"):
        PbftOrdering(0.0)
