"""Rounds without votes: the ordering protocol's leader writes, everybody still recomputes."""

from dataclasses import replace

import pytest

from consensus.pofel import blocks, evaluation, payload
from consensus.pofel import effects as fx
from consensus.pofel.messages import Commit, Mark, VoteCommit
from consensus.pofel.state import Phase
from fedalign.core.errors import ConfigError
from tests.consensus.pofel.servers import Servers, near, reasons, settings


def servers(n=3, **more):
    return Servers(settings(n, faults="crash"), models={i: near(i) for i in range(n)},
                   plain=True, **more)  # fmt: skip


def test_a_round_is_commits_a_mark_and_a_block():
    s = servers()
    s.until(None)
    assert [e.kind.value for e in s.stream] == ["commit"] * 3 + ["mark", "block"]
    assert [type(e).__name__ for e in s.effects if not isinstance(e, fx.SetTimer)] == [
        "FetchModel", "FetchModel", "FetchModel", "Evaluate", "BuildBlock", "ImportBlock",
        "SignFinal",
    ]  # fmt: skip
    assert s.state.height == 1 and s.state.absences == {} and s.state.strikes == {}


def test_the_block_seals_the_mean_and_pays_the_leader():
    s = servers()
    s.until(Phase.BLOCK)
    s.machine.provide(s.evaluated())
    mean = evaluation.aggregate([near(i) for i in range(3)], [100] * 3)
    assert payload.root(mean, 16) in s.machine.proposal(s.node(1)).facts
    s.block(1)
    pay = s.state.balances
    assert s.state.recent == (s.node(1),)
    assert pay[s.node(1)] - 50_000 == pytest.approx(pay[s.node(0)], rel=0.01)
    assert s.state.treasury == 50_000  # the voters' part
    assert sum(pay.values()) + s.state.treasury == s.state.minted == 1_000_000


def test_any_member_may_lead_and_a_lie_changes_nothing():
    s = servers()
    s.until(Phase.BLOCK)
    s.machine.provide(s.evaluated())
    lie = replace(s.machine.proposal(s.node(0)), time_s=1)
    lie = replace(lie, header_hash=blocks.block_hash(lie))
    assert reasons(s.order(s._signed(0, lie))) == ["wrong_time"]
    assert s.strikes() == [(0, "bad_block")] and s.state.height == 0
    s.block(2)
    assert s.state.height == 1 and s.state.recent == (s.node(2),)


def test_the_leader_cannot_take_another_s_bonus():
    """The facts name who is paid; sent by somebody else they are wrong."""
    s = servers()
    s.until(Phase.BLOCK)
    s.machine.provide(s.evaluated())
    other = s.machine.proposal(s.node(0))
    assert reasons(s.order(s._signed(1, other))) == ["wrong_tally"]


def test_votes_have_no_place_and_a_mark_comes_once():
    s = servers()
    assert reasons(s.send(0, VoteCommit(bytes(32)))) == ["not_ordered"]
    s.until(Phase.BLOCK)
    assert reasons(s.send(0, Mark(Phase.BLOCK, 0, 1))) == ["stale_mark"]
    assert reasons(s.send(0, Mark(Phase.COMMIT, 0, 1))) == ["stale_mark"]


def test_a_minority_is_not_enough():
    """n = 5, crash faults: n - f = 3."""
    s = servers(5, lazy={i: {"commit"} for i in range(3)})
    s.until(None)
    assert s.aborts() == 1 and s.state.height == 0
    s.lazy = {0: {"commit"}, 1: {"commit"}}
    s.until(None)
    assert s.state.height == 1


def test_blocks_wait_for_the_local_evaluation():
    s = servers()
    s.until(Phase.BLOCK)
    with pytest.raises(ConfigError, match="evaluated"):
        s.machine.proposal(s.node(0))
    s.machine.provide(s.evaluated())
    block = s._signed(0, s.machine.proposal(s.node(0)))
    fresh = servers(store=s.store)
    for entry in s.stream:
        fresh.order(entry)
    assert fresh.machine.stalls(block)
    fresh.order(block)  # the helper answers the evaluation first
    assert fresh.state.height == 1


def test_a_model_less_commit_counts_as_there():
    """Server 0 leads without a model: it earns the leader's bonus, 5 % of 10^6, and no more."""
    s = servers(4, lazy={0: {"model"}})
    s.until(None)
    assert s.state.height == 1 and s.state.balances[s.node(0)] == 50_000


def test_commit_names_its_root():
    s = servers()
    s.commit(0)
    root = payload.root(near(0), 16)
    assert s.state.reveals == {s.node(0): (root, b"", 0)}
    assert isinstance(s.stream[0].content, Commit)
