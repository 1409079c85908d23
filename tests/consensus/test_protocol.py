"""Chains over a simulated network: agreement, exact results, missing servers, continued runs."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from consensus.exact import Exact
from consensus.faults.withhold import Withhold
from consensus.network.links import Link, LogNormal
from consensus.none import NoConsensus
from consensus.ordering import BftOrdering, RaftOrdering
from consensus.pofel.settings import Timeouts
from consensus.pofel.tally import Fairness
from consensus.pofel.task import Evaluator
from consensus.protocol import Faulty, Ordered, PoFEL
from defenses.krum import Krum
from defenses.median import Median
from defenses.spp import SPP
from fedalign.core.agreement import Question, Sealed
from fedalign.core.contracts import Context, Updates
from fedalign.core.errors import ConfigError, DataError, IntegrityError, QuorumLostError
from fedalign.core.market import Payments
from tests.consensus.rounds import MEAN, agree, proposals

QUICK = Timeouts(train_ms=300, commit_ms=200, reveal_ms=200, avail_ms=400, evaluate_ms=200,
                 vote_ms=200, block_ms=200)  # fmt: skip


def opened(kind, *words, folder=None, **more):
    """Over Raft unless told otherwise, which costs a test less than signed votes on the order."""
    chain = kind(*words, **{"ordering": RaftOrdering(), "measure_cpu": False, **more})
    chain.open(folder)
    return chain


@pytest.mark.parametrize("ordering", [RaftOrdering(), BftOrdering()])
@pytest.mark.parametrize("kind", [PoFEL, Ordered])
@pytest.mark.parametrize("n", [4, 7])
def test_a_round_seals_the_exact_mean_on_every_server(kind, n, ordering):
    chain = opened(kind, n, ordering=ordering)
    verdict = agree(chain)
    updates = proposals(n)
    expected = Exact(MEAN, 16)(updates.rows, Context(weights=updates.samples.double()))
    assert verdict.aggregate.vector.tolist() == expected.vector.float().tolist()
    assert verdict.status == "final" and verdict.members == tuple(range(n))
    assert verdict.block.height == verdict.block.round == 1 and verdict.aborted == 0
    assert len(verdict.block.signers) >= n - (n - 1) // (3 if kind is PoFEL else 2)
    assert len({server.machine.state_hash() for server in chain.members}) == 1
    assert sum(verdict.rewards.values()) <= chain.rewards.units


def test_votes_elect_the_server_nearest_to_the_aggregate():
    chain = opened(PoFEL, 4)
    verdict = agree(chain)
    rows, goal = proposals(4).rows.double(), verdict.aggregate.vector.double()
    nearest = int(torch.cosine_similarity(rows, goal[None]).argmax())
    assert verdict.leader == nearest and set(verdict.votes.values()) == {nearest}
    assert len(set(verdict.scores.values())) == 1 and min(verdict.scores.values()) > 0


@pytest.mark.parametrize("rule", [Krum(1), Median(), SPP(Krum(1))])
def test_any_rule_runs_inside_and_reports_in_the_order_of_the_proposals(rule):
    chain = opened(PoFEL, 7)
    updates = proposals(7)
    updates.rows[2] *= -5
    shuffled = torch.tensor([3, 6, 2, 0, 5, 1, 4])
    turned = Updates(updates.clients[shuffled], updates.rows[shuffled], updates.samples[shuffled])
    answers = []
    for given in (updates, turned):
        chain = opened(PoFEL, 7)
        context = Context(clients=given.clients, weights=given.samples.double(), byzantine_count=1)
        answers.append(chain.agree(given, rule, context))
    one, other = answers
    assert one.block.hash == other.block.hash
    assert one.aggregate.vector.tolist() == other.aggregate.vector.tolist()
    assert one.aggregate.accepted[shuffled].tolist() == other.aggregate.accepted.tolist()
    grid = np.ldexp(one.aggregate.vector.double().numpy(), 16)
    assert (grid == np.rint(grid)).all()


def test_late_models_are_absent_but_the_round_goes_on():
    chain = opened(PoFEL, 7)
    verdict = agree(chain, late=(1, 4))
    assert verdict.members == (0, 2, 3, 5, 6) and not verdict.strikes and verdict.aborted == 0
    assert set(verdict.votes) == set(range(7))  # they vote all the same
    assert 1 not in {verdict.leader} and len(verdict.aggregate.accepted) == 5


def test_what_a_rule_is_told_of_servers_that_fell_out(monkeypatch):
    """Server 0 proposed but is down: its weight is in `absent`, the others are the rows."""
    seen = []

    class Watching(Median):
        def __call__(self, updates, context=Context()):
            seen.append((context.clients.tolist(), dict(context.absent), len(updates)))
            return super().__call__(updates, context)

    chain = opened(PoFEL, 4, down=(0,), timeouts=QUICK)
    verdict = agree(chain, rule=Watching())
    assert seen and all(found == ([1, 2, 3], {0: 10.0}, 3) for found in seen)
    assert verdict.aggregate.accepted.tolist() == [False, True, True, True]


@pytest.mark.parametrize("kind", [PoFEL, Ordered])
def test_same_seed_same_blocks_other_seed_other_network(kind):
    link = Link(LogNormal(1000, 0.8), loss=0.05, duplicate=0.05)
    runs = [opened(kind, 4, seed=seed, link=link) for seed in (1, 1, 2)]
    verdicts = [[agree(chain, r) for r in (1, 2)] for chain in runs]
    hashes = [[v.block.hash for v in run] for run in verdicts]
    latency = [[v.cost.latency_s for v in run] for run in verdicts]
    assert hashes[0] == hashes[1] != hashes[2] and latency[0] == latency[1] != latency[2]
    vectors = [[v.aggregate.vector.tolist() for v in run] for run in verdicts]
    assert vectors[0] == vectors[1] == vectors[2]  # what is agreed on depends on no network


def test_evaluating_once_for_all_changes_nothing_but_the_time():
    many, once = opened(PoFEL, 4), opened(PoFEL, 4, recompute=False)
    assert agree(many).block.hash == agree(once).block.hash


@pytest.mark.parametrize("kind", [PoFEL, Ordered])
def test_a_stopped_run_continues_from_its_folder(kind, tmp_path):
    whole = opened(kind, 4)
    expected = [agree(whole, r).block for r in (1, 2, 3)]
    first = opened(kind, 4, folder=tmp_path)
    assert agree(first, 1).block == expected[0]
    second = kind(4, ordering=RaftOrdering())
    assert second.open(tmp_path) == expected[0]
    assert [agree(second, r).block for r in (2, 3)] == expected[1:]
    assert kind(4).open(tmp_path) == expected[2]


@pytest.mark.parametrize("kind", [PoFEL, Ordered])
def test_an_audit_replays_all_and_names_every_flipped_byte(kind, tmp_path):
    faults = [Faulty(Withhold("reveal"), (2,))] if kind is PoFEL else []
    chain = opened(kind, 4, folder=tmp_path, faults=faults, timeouts=QUICK)
    for round_ in (1, 2):
        agree(chain, round_)
    replayed = chain.audit()
    assert [(one.block.height, one.aggregate) for one in replayed] == [(1, None), (2, None)]
    path = tmp_path / "blocks" / "000002.block"
    data = path.read_bytes()
    for place in range(1, len(data), len(data) // 60):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises((DataError, IntegrityError)):
            chain.audit()
    path.write_bytes(data)
    other = opened(kind, 4, seed=9, folder=tmp_path / "other")
    other.open(None)
    with pytest.raises(IntegrityError, match="another place"):
        kind(4, seed=9).open(tmp_path)


def test_an_audit_recomputes_where_models_are_kept(tmp_path):
    chain = opened(PoFEL, 4, folder=tmp_path)
    verdict, updates = agree(chain), proposals(4)
    about = Context(round=1, clients=updates.clients, weights=updates.samples.double())
    asked = Question(updates, MEAN, about, Sealed(clock_s=1.0))
    (again,) = chain.audit({1: asked})
    assert torch.equal(again.aggregate.vector, verdict.aggregate.vector)
    assert again.block == verdict.block
    with pytest.raises(IntegrityError, match="another aggregate"):
        chain.audit({1: replace(asked, rule=Median())})
    moved = replace(updates, rows=updates.rows + 1)
    with pytest.raises(IntegrityError, match="not the sealed ones"):
        chain.audit({1: replace(asked, proposals=moved)})
    with pytest.raises(IntegrityError, match="refused"):
        chain.audit({1: replace(asked, sealed=Sealed(clock_s=2.0))})


def test_a_missing_block_is_named(tmp_path):
    chain = opened(PoFEL, 4, folder=tmp_path)
    for round_ in (1, 2):
        agree(chain, round_)
    (tmp_path / "blocks" / "000001.block").unlink()
    with pytest.raises(IntegrityError, match="Height 1 is missing"):
        chain.audit()


def test_a_cut_majority_goes_on_and_the_rest_catches_up():
    """Servers 5 and 6 hear nothing of the first round; the second one finds them in step."""
    chain = opened(PoFEL, 7, cut=((0, 1, 2, 3, 4), (5, 6)), timeouts=QUICK)
    assert agree(chain).members == (0, 1, 2, 3, 4)
    chain.cut = ()
    assert agree(chain, 2).members == tuple(range(7))
    halves = opened(PoFEL, 7, cut=((0, 1, 2, 3), (4, 5, 6)), timeouts=QUICK, max_aborts=0)
    with pytest.raises(QuorumLostError):
        agree(halves)
    halves.cut = ()
    assert agree(halves).block.height == 1  # nothing is left of the lost one


def test_after_healing_nobody_waits_long():
    halves = ((0, 1, 2, 3), (4, 5, 6))
    verdict = agree(opened(PoFEL, 7, cut=halves, heal_ms=3000))
    assert verdict.block.height == 1 and 3 < verdict.cost.latency_s < 13


def test_a_minority_waits_in_vain_and_says_so():
    chain = opened(PoFEL, 4, down=(1, 2), timeouts=QUICK, max_aborts=1)
    with pytest.raises(QuorumLostError, match="simulated seconds"):
        agree(chain)


def test_too_few_models_abort_round_after_round():
    chain = opened(PoFEL, 4, timeouts=QUICK, max_aborts=2)
    with pytest.raises(QuorumLostError, match="3 rounds in a row"):
        agree(chain, late=(0, 1, 2))


@pytest.mark.parametrize("ordering", [RaftOrdering(), BftOrdering()])
def test_a_majority_without_the_first_leader_goes_on(ordering):
    verdict = agree(opened(PoFEL, 7, down=(0, 3), timeouts=QUICK, ordering=ordering))
    assert verdict.members == (1, 2, 4, 5, 6) and not verdict.strikes


def test_a_rule_below_its_condition_moves_nothing():
    verdict = agree(opened(PoFEL, 4), rule=Krum(1))  # 4 servers, needs 5
    assert verdict.aggregate.skipped and not verdict.aggregate.vector.any()
    assert "needs at least 5" in verdict.aggregate.notes["skipped"]
    assert verdict.block.height == 1


def test_the_block_seals_what_the_round_before_led_to():
    a, b = Sealed(model=bytes([1]) * 32, clock_s=2.0), Sealed(model=bytes([2]) * 32, clock_s=2.0)
    blocks = []
    for sealed in (a, b, a):
        updates, chain = proposals(4), opened(PoFEL, 4)
        context = Context(weights=updates.samples.double())
        blocks.append(chain.agree(updates, MEAN, context, sealed).block)
    assert blocks[0] == blocks[2] and blocks[0].hash != blocks[1].hash
    paid = opened(PoFEL, 4).agree(
        proposals(4), MEAN, Context(weights=proposals(4).samples.double()),
        Sealed(a.model, Payments((1,), (5,), 5), 2.0),
    )  # fmt: skip
    assert paid.block.hash not in (blocks[0].hash, blocks[1].hash)


def test_a_closing_block_follows_the_last_one():
    chain = opened(PoFEL, 4)
    assert chain.close() is None
    last = agree(chain).block
    closing = chain.close(Sealed(model=bytes([7]) * 32))
    assert (closing.height, closing.parent) == (2, last.hash) and len(closing.signers) == 4


def test_cost_is_told_by_phase():
    verdict = agree(opened(PoFEL, 4, measure_cpu=True), d=500)
    phases = {"commit", "reveal", "avail", "evaluate", "vote_commit", "vote", "block", "final"}
    assert phases <= set(verdict.costs)
    assert verdict.costs["final"].messages == 4 * 3
    one = 4 * 500 + 27  # every server fetches three models of four bytes a value
    assert verdict.costs["reveal"].model_bytes == 4 * 3 * (one + 64)
    assert verdict.cost.cpu_s == sum(c.cpu_s for c in verdict.costs.values()) > 0
    assert 0 < verdict.costs["vote"].latency_s < 0.05


def test_leaders_rotate_where_told_to():
    chain = opened(PoFEL, 4, fairness=Fairness("cooldown", 1))
    updates = proposals(4)
    context = Context(weights=updates.samples.double())
    leaders = [chain.agree(updates, MEAN, context).leader for _ in range(4)]
    assert all(a != b for a, b in pairwise(leaders))


@pytest.mark.parametrize("metric", ["cosine_weights", "neg_l2_update", "spp"])
def test_other_metrics_elect_too(metric):
    chain = opened(PoFEL, 4, evaluator=Evaluator(metric))
    verdict = agree(chain, model=torch.full((32,), 0.1))
    assert verdict.leader in range(4) and len(set(verdict.votes.values())) == 1


def test_none_is_the_rule_itself():
    updates = proposals(4)
    context = Context(weights=updates.samples.double())
    nobody = NoConsensus()
    verdict = nobody.agree(updates, MEAN, context)
    assert nobody.open(None) is None and nobody.close() is None
    assert verdict.status == "plain" and verdict.block is None
    assert verdict.aggregate.vector.tolist() == MEAN(updates.rows, context).vector.tolist()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"servers": 3}, "needs 4 servers or more"),
        ({"servers": 4, "down": (4,)}, r"positions 0 \.\. 3"),
        ({"servers": 4, "down": (1, 1)}, "distinct"),
        ({"servers": 4, "max_aborts": -1}, "max_aborts"),
    ],
)
def test_what_cannot_be_is_refused(words, says):
    with pytest.raises(ConfigError, match=says):
        PoFEL(**words)


def test_proposals_of_nobody_are_refused():
    chain = opened(PoFEL, 4)
    stranger = Updates(torch.tensor([0, 1, 2, 9]), torch.zeros(4, 8), torch.ones(4).long())
    with pytest.raises(ConfigError, match="distinct servers"):
        chain.agree(stranger, MEAN, Context())
