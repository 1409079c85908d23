"""The algorithm line by line, on one server among four: quorum 3, one may lie.

Server 0 is watched; the proposer of (height 1, round r) is (1 + r) mod 4.
"""

import pytest

from consensus.bft.messages import (
    NIL,
    Ack,
    Decision,
    Items,
    Message,
    Proposal,
    Status,
    Step,
    digest_of,
)
from consensus.bft.quorum import faulty, quorum, some_honest
from fedalign.core.errors import ConfigError
from tests.consensus.bft.bench import (
    A,
    B,
    Bench,
    bundle,
    decision,
    precommits,
    prevotes,
    proposal,
    vote,
)  # fmt: skip

DA, DB = digest_of(A), digest_of(B)


def test_quorums():
    """Floor(2n/3) + 1 = n - f for n = 4 .. 10."""
    assert [quorum(n) for n in range(4, 11)] == [3, 4, 5, 5, 6, 7, 7]
    assert all(quorum(n) == n - faulty(n) and some_honest(n) == faulty(n) + 1 for n in range(1, 50))


@pytest.mark.parametrize("n", range(4, 30))
def test_two_quorums_share_an_honest_server(n):
    """|Q1 and Q2| >= 2q - n, of which at most f lie."""
    assert 2 * quorum(n) - n > faulty(n)


def test_at_five_servers_two_sets_of_three_decide_nothing():
    """n = 5, f = 1: 2f + 1 = 3 servers {0,1,2} and {2,3,4} overlap in the liar 2 alone."""
    bench = Bench(n=5)
    bench.hear(proposal(0, A, 1), *prevotes(0, A, 1, 2), *precommits(0, A, 1, 2))
    assert bench.decided == []  # with its own, three precommits would be possible
    bench.hear(decision(A, 1, 2, 3))
    assert bench.decided == []
    bench.hear(decision(A, 1, 2, 3, 4))
    assert len(bench.decided) == 1


# ---------------------------------------------------------------------- proposing


def test_line_14_the_proposer_proposes_what_waits():
    bench = Bench(id=1)
    assert bench.ask(b"x").status == "accepted"
    assert [p.batch for p in bench.proposals()] == [(b"x",)]
    assert bench.prevotes() == [(0, digest_of((b"x",)))]


def test_nothing_is_said_while_there_is_nothing_to_order():
    bench = Bench(id=1)
    bench.tick(5)
    assert not bench.said
    bench.tick(200)
    assert {type(body) for body in bench.said} == {Status}


def test_line_16_a_valid_value_is_proposed_again_with_its_round():
    """Server 2 proposes in round 1: it saw a quorum of prevotes for A in round 0."""
    bench = Bench(id=2)
    bench.hear(proposal(0, A, 1), *prevotes(0, A, 0, 1))
    bench.hear(*precommits(0, NIL, 0, 1))
    bench.tick(10)
    again = bench.proposals()[-1]
    assert (again.round, again.batch, again.pol_round) == (1, A, 0)


def test_batches_respect_their_limits():
    bench = Bench(id=1, max_batch_items=2, max_batch_bytes=10)
    bench.core._add_item(b"12345678901234")  # larger than the limit travels alone
    bench.core._add_item(b"b")
    assert bench.core.next_batch() == (b"12345678901234",)
    many = Bench(id=1, max_batch_items=2)
    for item in (b"1", b"2", b"3"):
        many.core._add_item(item)
    assert many.core.next_batch() == (b"1", b"2")


def test_a_full_pool_refuses_with_a_sentence():
    bench = Bench(max_pool_bytes=4)
    assert bench.ask(b"abcd").status == "accepted"
    assert "max_pool_bytes=4" in bench.ask(b"e").reason
    few = Bench(max_pool_items=2)
    assert [few.ask(item).status for item in (b"1", b"2", b"3")] == ["accepted"] * 2 + ["dropped"]
    assert "2 items wait" in few.ask(b"3").reason
    assert bench.ask(b"abcd").reason == "it waits already"


# ---------------------------------------------------------------------- prevotes and locks


def test_line_22_a_fresh_proposal_is_prevoted():
    bench = Bench()
    bench.hear(proposal(0, A, 1))
    assert bench.prevotes() == [(0, DA)]


def test_line_26_what_the_judge_refuses_is_prevoted_nil():
    bench = Bench(valid=lambda height, batch: batch != A)
    bench.hear(proposal(0, A, 1))
    assert bench.prevotes() == [(0, NIL)]


def test_a_proposal_out_of_turn_is_ignored():
    bench = Bench()
    bench.hear(proposal(0, A, 3))
    assert bench.prevotes() == []


def test_line_36_a_quorum_of_prevotes_locks_and_is_precommitted():
    bench = Bench()
    bench.hear(proposal(0, A, 1), *prevotes(0, A, 1))
    assert bench.precommits() == []
    bench.hear(*prevotes(0, A, 2))
    assert bench.precommits() == [(0, DA)]
    assert (bench.core.locked.round, bench.core.locked.batch) == (0, A)


def locked_on_a():
    """Server 0, locked on A in round 0, now in round 1 (proposer 2)."""
    bench = Bench()
    bench.hear(proposal(0, A, 1), *prevotes(0, A, 1, 2), *precommits(0, NIL, 1, 2))
    bench.tick(10)
    assert bench.core.round == 1 and bench.precommits() == [(0, DA)]
    return bench


def test_line_24_a_locked_server_refuses_another_batch():
    bench = locked_on_a()
    bench.hear(proposal(1, B, 2))
    assert bench.prevotes()[-1] == (1, NIL)


def test_line_24_a_locked_server_prevotes_its_batch_again():
    bench = locked_on_a()
    bench.hear(proposal(1, A, 2))
    assert bench.prevotes()[-1] == (1, DA)


def test_line_30_an_older_quorum_of_prevotes_does_not_unlock():
    """Round 2 (proposer 3) proposes B with a claimed quorum in round 0: not there, so nothing."""
    bench = locked_on_a()
    bench.hear(*prevotes(2, NIL, 1, 2))  # two others are in round 2: so is one honest
    bench.hear(proposal(2, B, 3, pol=0))
    assert bench.core.round == 2 and (2, DB) not in bench.prevotes()


def test_line_29_a_newer_quorum_of_prevotes_unlocks():
    bench = locked_on_a()
    bench.hear(*prevotes(2, NIL, 1, 2))
    bench.hear(proposal(1, B, 2), *prevotes(1, B, 1, 2, 3))
    bench.hear(proposal(2, B, 3, pol=1))
    assert bench.prevotes()[-1] == (2, DB)


def test_line_44_a_quorum_of_nil_precommits_nil():
    bench = Bench()
    bench.hear(*prevotes(0, NIL, 1, 2, 3))
    bench.tick(6)  # its own time-out: prevote nil, then the quorum is seen
    assert bench.precommits() == [(0, NIL)]
    assert bench.core.locked.round == -1


# ---------------------------------------------------------------------- time-outs and rounds


def test_line_57_without_a_proposal_prevote_nil_after_the_time_out():
    bench = Bench(propose_tick=4)
    bench.ask()
    bench.tick(3)
    assert bench.prevotes() == []
    bench.tick(1)
    assert bench.prevotes() == [(0, NIL)]


def test_line_61_a_split_vote_precommits_nil_after_the_time_out():
    bench = Bench(vote_tick=3)
    bench.hear(proposal(0, A, 1), *prevotes(0, NIL, 2, 3))
    bench.tick(2)
    assert bench.precommits() == []
    bench.tick(1)
    assert bench.precommits() == [(0, NIL)]


def test_line_65_precommits_without_a_decision_begin_the_next_round():
    bench = Bench(vote_tick=3)
    bench.hear(proposal(0, A, 1), *precommits(0, NIL, 1, 2, 3))
    bench.tick(2)
    assert bench.core.round == 0
    bench.tick(1)
    assert bench.core.round == 1


def test_time_outs_grow_with_the_round():
    bench = Bench(propose_tick=4, growth_tick=5)
    bench.hear(*prevotes(2, NIL, 1, 2))
    assert bench.core.round == 2
    bench.tick(4 + 2 * 5 - 1)
    assert bench.prevotes() == []
    bench.tick(1)
    assert bench.prevotes() == [(2, NIL)]


def test_line_55_one_honest_server_ahead_is_followed_one_liar_is_not():
    bench = Bench()
    bench.hear(*prevotes(7, NIL, 1))
    assert bench.core.round == 0
    bench.hear(*precommits(7, NIL, 2))
    assert bench.core.round == 7


# ---------------------------------------------------------------------- decisions


def test_line_49_a_quorum_of_precommits_decides_in_any_round():
    bench = locked_on_a()
    bench.hear(*precommits(0, A, 3))
    assert bench.decided == []  # own and 3: two; 1 and 2 precommitted nil there
    bench.hear(proposal(1, A, 2), *precommits(1, A, 1, 2, 3))
    assert [(d.height, d.round, d.batch) for d in bench.decided] == [(1, 1, A)]
    assert [v.voter for v in bench.decided[0].certificate] == [1, 2, 3]
    assert bench.core.height == 2


def test_what_a_quorum_decided_is_decided_whatever_the_judge_says():
    bench = Bench(valid=lambda height, batch: False)
    bench.hear(proposal(0, A, 1), *precommits(0, A, 1, 2, 3))
    assert len(bench.decided) == 1


def test_a_server_that_fell_behind_is_helped_and_proves_it():
    ahead, behind = Bench(), Bench(id=3)
    ahead.hear(decision(A, 1, 2, 3), decision(B, 1, 2, 3, height=2))
    ahead.said.clear()
    ahead.hear(Status(1))
    assert [body.height for body in ahead.said] == [1, 2]
    behind.hear(ahead.said[0], ahead.said[1])
    assert [d.batch for d in behind.decided] == [A, B]


def chain_of(count):
    return [decision((b"%d" % height,), 1, 2, 3, height=height) for height in range(1, count + 1)]


def test_a_server_far_behind_asks_burst_by_burst_and_old_heights_come_from_the_archive():
    """20 heights, 5 kept: 1 .. 7 in one answer, then to the next multiple of 8 each."""
    told = chain_of(20)
    ahead, behind = Bench(keep_heights=5), Bench(id=3)
    ahead.core.earlier = {d.height: d for d in told}.get
    ahead.hear(*told)
    assert sorted(ahead.core.decisions) == [16, 17, 18, 19, 20]
    asked = Status(1)
    for count in (7, 15, 20):
        ahead.said.clear()
        ahead.tick(1)
        ahead.hear(asked)
        behind.said.clear()
        behind.hear(*(body for body in ahead.said if isinstance(body, Decision)))
        assert len(behind.decided) == count
        asked = next((b for b in behind.said if isinstance(b, Status)), None)
    assert asked is None and behind.decided == told


def test_proofs_that_run_ahead_wait_until_the_height_before_is_applied():
    """A slow disk: heights 2 and 3 arrive before height 1 is applied."""
    bench = Bench(id=3)
    for proof in chain_of(3)[::-1]:
        bench.core.step(Message(3, proof, 1))
    assert bench.core.height == 2  # decided one height, applied none
    bench.obey()
    assert [d.height for d in bench.decided] == [1, 2, 3] and not bench.core.proofs
    bench.hear(decision(A, 1, 2, 3, height=40))  # nobody can fill the memory with far heights
    assert not bench.core.proofs


def test_asking_for_decisions_again_and_again_costs_the_others_little():
    """One answer a tick: a liar cannot make a server send without end."""
    bench = Bench()
    bench.hear(decision(A, 1, 2, 3))
    bench.said.clear()
    bench.hear(*[Status(1)] * 100)
    assert len(bench.said) == 1
    bench.tick(1)
    bench.hear(Status(1))
    assert len([body for body in bench.said if body == bench.said[0]]) == 2


@pytest.mark.parametrize(
    "forged",
    [
        decision(A, 1, 2),
        decision(A, 1, 1, 1),
        decision(A, 1, 2, 9),
        decision(A, 1, 2, 3)._replace(batch=B),
        decision(A, 1, 2, 3)._replace(round=1),
        decision(A, 1, 2, 3, height=2),
    ],
)
def test_decisions_without_proof_are_ignored(forged):
    bench = Bench()
    bench.hear(forged)
    assert bench.decided == []


def test_ordered_items_leave_the_pool():
    bench = Bench()
    bench.ask(b"a")
    bench.hear(Items((b"c",)))
    bench.hear(decision(A, 1, 2, 3))
    assert list(bench.core.pool.values()) == [b"c"]


def test_the_next_height_waits_until_the_last_one_is_applied():
    """Members may change with it, so no vote is cast before."""
    bench = Bench(id=2)
    bench.core.propose(b"x")
    bench.core.step(Message(2, decision(A, 0, 1, 3), 1))
    assert bench.core.height == 2 and not bench.core.active()
    assert not any(isinstance(m.body, Proposal) for m in bench.core.after_persist)
    bench.obey()
    assert [p.height for p in bench.proposals()] == [2]


def test_members_and_quorum_change_with_the_next_height():
    """Height 1 is decided by three of four; from height 2 on there are seven, and five decide."""
    bench = Bench()
    bench.core.step(Message(0, decision(A, 1, 2, 3), 1))
    bench.core.ready()
    bench.core.advance(Ack(applied=1, members=range(7)))
    bench.hear(decision(B, 1, 2, 3, height=2))
    bench.hear(decision(B, 1, 2, 3, 4, height=2))
    assert bench.core.height == 2
    bench.hear(decision(B, 1, 2, 3, 4, 6, height=2))
    assert bench.core.height == 3
    assert [bench.core.proposer(3, round) for round in range(4)] == [3, 4, 5, 6]


# ---------------------------------------------------------------------- disk and crashes


def test_votes_leave_after_the_disk_has_them():
    bench = Bench()
    bench.core.step(Message(0, proposal(0, A, 1), 1))
    ready = bench.core.ready()
    assert ready.must_sync and len(ready.records) == 1
    assert [m.body.step for m in ready.messages_after_persist] == [Step.PREVOTE]
    assert not any(getattr(m.body, "voter", None) == 0 for m in ready.messages)


def test_after_a_crash_the_same_vote_is_said_again_and_no_other():
    """It prevoted A in round 0; restarted, the proposer shows it B instead."""
    before = Bench()
    before.hear(proposal(0, A, 1))
    after = Bench(records=before.journal)
    after.hear(proposal(0, B, 1), *prevotes(0, B, 1, 2))
    after.tick(20)
    said = [v for body in after.said for v in getattr(body, "votes", [body])]
    own = {v[:4] for v in said if getattr(v, "voter", None) == 0 and v.round == 0}
    assert {v for v in own if v[0] is Step.PREVOTE} == {(Step.PREVOTE, 1, 0, DA)}
    assert (Step.PRECOMMIT, 1, 0, DB) not in own


def test_after_a_crash_a_lock_still_holds():
    before = locked_on_a()
    after = Bench(records=before.journal)
    assert (after.core.locked.round, after.core.locked.batch) == (0, A)
    after.hear(*prevotes(1, NIL, 1, 2))
    after.hear(proposal(1, B, 2))
    assert (1, DB) not in after.prevotes()


def test_decisions_survive_and_are_handed_out_again():
    before = Bench()
    before.hear(decision(A, 1, 2, 3), decision(B, 1, 2, 3, height=2))
    after = Bench(records=before.journal)
    assert [d.batch for d in after.decided] == [A, B] and after.core.height == 3


def test_a_checkpoint_stands_for_the_journal():
    before = locked_on_a()
    short = Bench(records=before.core.checkpoint())
    long = Bench(records=before.journal)
    assert short.core.signed == long.core.signed
    assert (short.core.locked, short.core.valid_lock) == (long.core.locked, long.core.valid_lock)


# ---------------------------------------------------------------------- evidence


def test_two_votes_of_one_step_are_evidence_once():
    bench = Bench()
    bench.hear(*prevotes(0, A, 1), *prevotes(0, B, 1), *prevotes(0, NIL, 1))
    assert [(e.first.digest, e.second.digest) for e in bench.evidence] == [(DA, DB)]


def test_two_proposals_are_evidence():
    bench = Bench()
    bench.hear(proposal(0, A, 1), proposal(0, B, 1))
    assert bench.evidence[0].first.step is Step.PROPOSE
    assert bench.prevotes() == [(0, DA)]


def test_a_contradiction_that_arrives_after_the_decision_is_evidence():
    bench = Bench()
    bench.hear(proposal(0, A, 1), *prevotes(0, A, 1, 2), *precommits(0, A, 1, 2))
    assert bench.decided
    bench.hear(*precommits(0, B, 2))
    assert bench.evidence[0].first.voter == 2


def test_whoever_saw_dissent_shows_it_to_all():
    """Server 3 told only server 0 NIL; after the decision 0 passes its votes on."""
    bench = Bench()
    bench.hear(*prevotes(0, NIL, 3), proposal(0, A, 1), *prevotes(0, A, 1, 2))
    bench.said.clear()
    bench.hear(*precommits(0, A, 1, 2))
    shown = [v for body in bench.said for v in getattr(body, "votes", ())]
    assert any(v.voter == 3 and v.digest == NIL for v in shown)


def test_a_liars_second_vote_cannot_hide_a_quorum():
    """Server 3 said NIL here, A elsewhere: beside two honest votes for A its vote counts."""
    bench = Bench()
    bench.hear(*prevotes(0, NIL, 3), proposal(0, A, 1))
    bench.hear(bundle(*prevotes(0, A, 3), *prevotes(0, A, 1)))
    assert bench.precommits() == [(0, DA)] and len(bench.evidence) == 1


def test_strangers_do_not_count():
    bench = Bench()
    bench.hear(proposal(0, A, 1), *prevotes(0, A, 4, 5, 6))
    assert bench.precommits() == [] and bench.evidence == []


@pytest.mark.parametrize("members", [(), (1, 1), (-1, 0)])
def test_impossible_members_are_refused(members):
    with pytest.raises(ConfigError, match="Members are distinct"):
        Bench().core._set_members(members)


def test_knobs_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="growth_tick must be at least 1, got 0"):
        Bench(growth_tick=0)


def test_the_reason_of_a_vote_is_signed():
    bench = locked_on_a()
    bench.hear(*prevotes(2, NIL, 1, 2))
    bench.hear(proposal(1, B, 2), *prevotes(1, B, 1, 2, 3), proposal(2, B, 3, pol=1))
    mine = [b for b in bench.said if getattr(b, "voter", None) == 0 and b.round == 2]
    assert mine[0] == vote(Step.PREVOTE, 2, B, 0, pol=1)
