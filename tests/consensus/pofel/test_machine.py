"""The round machine, phase by phase: what it accepts, whom it strikes, when it gives up."""

from dataclasses import replace

import pytest

from consensus.pofel import effects as fx
from consensus.pofel import evaluation, hcds, payload
from consensus.pofel.btsv import Btsv
from consensus.pofel.machine import RoundMachine
from consensus.pofel.messages import Avail, Commit, Entry, Final, Fraud, Mark, Reveal, VoteCommit
from consensus.pofel.settings import Settings, Timeouts
from consensus.pofel.state import Phase, State
from consensus.pofel.tally import Fairness
from fedalign.core.errors import ConfigError, DataError
from tests.consensus.pofel.servers import (
    CHAIN,
    CHECK,
    Servers,
    keys,
    near,
    nodes,
    nonce,
    reasons,
    settings,
)


def kinds(found):
    return [type(e).__name__ for e in found]


def test_an_honest_round_effect_by_effect():
    """n = 4: which effects every mark brings."""
    s = Servers(settings(4))
    assert kinds(s.machine.opening()) == ["SetTimer"]
    brought = {}
    while s.state.height == 0:
        now, seen = Phase(s.state.phase), len(s.effects)
        s.step()
        brought[now.name] = kinds(s.effects[seen:])
    fetch = ["FetchModel"] * 4
    assert brought == {
        "COMMIT": ["SetTimer", "SendReveal", "SetTimer"],  # the first timer: f + 1 = 2 commits
        "REVEAL": [*fetch, "SendAvail", "SetTimer"],
        "AVAIL": ["Evaluate", "CastVote", "SetTimer"],
        "VOTE_COMMIT": ["OpenVote", "SetTimer"],
        "VOTE": ["BuildBlock", "SetTimer"],
        "BLOCK": ["ImportBlock", "SignFinal", "SetTimer"],
    }
    assert (s.state.round, s.state.height, s.state.phase) == (2, 1, Phase.COMMIT)
    assert s.state.head == s.effects[-2].header_hash


def test_timers_follow_the_phase():
    t = Timeouts(train_ms=1, commit_ms=20, reveal_ms=300, avail_ms=4000, evaluate_ms=50_000,
                 vote_ms=600_000, block_ms=7)  # fmt: skip
    s = Servers(settings(4, timeouts=t), lazy={i: {"block"} for i in range(4)})
    first = s.machine.opening()[0]
    s.until(Phase.BLOCK)
    found = [first, *(e for e in s.effects if isinstance(e, fx.SetTimer))]
    assert [e.after_ms for e in found] == [21, 20, 300, 4000, 650_000, 600_000, 7]
    for _ in range(8):
        s.mark()
    ranks = [e.after_ms for e in s.effects if isinstance(e, fx.SetTimer)][-8:]
    assert ranks == [14, 28, 56, 112, 224, 448, 448, 448]  # doubling stops at the sixth rank
    with pytest.raises(ConfigError, match="above 0"):
        Timeouts(vote_ms=0)


def test_the_sealed_aggregate_is_the_exact_mean():
    s = Servers(settings(3), models={i: near(i) for i in range(3)})
    s.until(Phase.BLOCK)
    facts = s.machine.proposal(s.node(s.author()))
    mean = evaluation.aggregate([near(i) for i in range(3)], [100] * 3)
    assert payload.root(mean, 16) in facts.facts
    s.until(None)
    assert s.state.scale == evaluation.next_scale(16, mean)


def test_sample_counts_can_be_capped():
    """Told 100, 100, 100, 10^6; with a cap of 2 the last one counts as 200."""
    s = Servers(settings(4, size_cap=2))
    for i, size in enumerate((100, 100, 100, 1_000_000)):
        s.commit(i, size)
    s.mark(timeout=0)
    s.until(Phase.VOTE_COMMIT)
    assert list(s.state.sizes(s.settings).values()) == [100, 100, 100, 200]


# ---------------------------------------------------------------- what changes nothing


def unchanged(s, send, why):
    before = s.machine.state_hash()
    assert reasons(send()) == [why]
    assert s.machine.state_hash() == before


def test_duplicates_and_foreign_entries_are_no_ops():
    s = Servers(settings(4))
    s.commit(0)
    unchanged(s, lambda: s.order(s.stream[-1]), "duplicate")
    mine = Commit(bytes([1]) * 32, 5, s.state.head, 7)
    unchanged(s, lambda: s.send(0, mine), "duplicate")
    unchanged(s, lambda: s.send(1, replace(mine, parent=bytes([9]) * 32)), "wrong_parent")
    unchanged(s, lambda: s.send(1, replace(mine, size=0)), "bad_size")
    unchanged(s, lambda: s.send(1, replace(mine, size=2**32)), "bad_size")
    unchanged(s, lambda: s.send(1, replace(mine, commitment=hcds.ABSENT)), "bad_size")
    unchanged(s, lambda: s.send(1, mine, round_=2), "other_round")
    unchanged(s, lambda: s.send(1, mine, view=1), "wrong_view")
    unchanged(s, lambda: s.send(1, Final(0, bytes(32))), "not_ordered")
    stranger = Entry.sign(keys(9)[8], CHAIN, 1, mine)
    unchanged(s, lambda: s.order(stranger), "no_member")
    foreign = Entry.sign(keys(4)[1], CHAIN + 1, 1, mine)
    unchanged(s, lambda: s.order(foreign), "foreign_chain")
    good = Entry.sign(keys(4)[1], CHAIN, 1, mine)
    unchanged(s, lambda: s.order(replace(good, round=1, sender=s.node(2))), "forged")
    unchanged(s, lambda: s.order(replace(good, body=good.body[:-1])), "forged")
    garbled = Entry.sign(keys(4)[1], CHAIN, 1, mine)
    object.__setattr__(garbled, "body", b"\xc0")
    resigned = replace(garbled, signature=keys(4)[1].sign(replace(garbled).digest))
    unchanged(s, lambda: s.order(resigned), "malformed")


def test_items_of_other_phases_are_no_ops():
    everything = Servers(settings(4)).until(None).stream
    for phase in list(Phase):
        fresh = Servers(settings(4))
        fresh.until(phase)
        own = {"COMMIT": {"commit"}, "REVEAL": {"reveal"}, "AVAIL": {"avail"}, "BLOCK": {"block"},
               "VOTE_COMMIT": {"vote_commit"}, "VOTE": {"vote"}}[phase.name]  # fmt: skip
        for entry in everything:
            if entry.kind.value not in own | {"mark"}:
                unchanged(fresh, lambda e=entry, f=fresh: f.order(e), "other_phase")


def test_a_mark_names_the_phase_it_ends():
    """After a proposer change the same mark comes twice: it skips neither phase nor rank."""
    s = Servers(settings(4))
    for i in range(4):
        s.commit(i)
    s.mark(timeout=0, by=1)
    ended = s.stream[-1]
    unchanged(s, lambda: s.order(ended), "stale_mark")
    again = Entry.sign(keys(4)[2], CHAIN, 1, Mark(Phase.COMMIT, 0, 1))
    unchanged(s, lambda: s.order(again), "stale_mark")
    unchanged(s, lambda: s.mark(timeout=0), "incomplete")
    s.until(Phase.BLOCK)
    first = s.author()
    s.mark()
    assert s.state.rank == 1 and s.author() != first
    unchanged(s, lambda: s.order(s.stream[-1]), "stale_mark")


def test_who_reveals_what():
    s = Servers(settings(4), lazy={3: {"commit"}})
    s.until(Phase.REVEAL)
    s.reveal(0)
    unchanged(s, lambda: s.reveal(0), "duplicate")
    unchanged(s, lambda: s.reveal(3), "no_commit")
    root, opened = payload.root(s.model(1), 16), nonce("model", 1, 1)
    good = Reveal(root, opened, 1, 59, b"<i4", bytes(32))
    for wrong, why in (
        (replace(good, nonce=bytes(32)), "does_not_open"),
        (replace(good, model_root=bytes(32)), "does_not_open"),
        (replace(good, length=0), "oversized"),
        (replace(good, length=2**35), "oversized"),
        (replace(good, chunks=2), "bad_manifest"),
    ):
        unchanged(s, lambda w=wrong: s.send(1, w), why)
    assert kinds(s.send(1, good)) == ["FetchModel"]


def test_votes_must_open_and_be_well_formed():
    s = Servers(settings(4)).until(Phase.VOTE_COMMIT)
    told = s.ballot(0)
    bad = {
        "bad_vote": replace(told, choice=4),
        "bad_prediction": replace(told, prediction_ppm=(1_000_000, 0, 0, 0)),
    }
    for i, vote in enumerate(bad.values()):
        place = (CHAIN, 1, s.node(i))
        commitment = hcds.commit_vote(*place, vote.choice, vote.prediction_ppm, vote.nonce)
        s.send(i, VoteCommit(commitment))
    s.vote_commit(2)
    s.mark()
    for i, (why, vote) in enumerate(bad.items()):
        unchanged(s, lambda v=vote, i=i: s.send(i, v), why)
    unchanged(s, lambda: s.send(2, replace(s.ballot(2), nonce=bytes(32))), "does_not_open")
    unchanged(s, lambda: s.send(3, s.ballot(3)), "does_not_open")  # had no vote commit
    unchanged(s, lambda: s.send(2, replace(told, prediction_ppm=(10**6,))), "bad_vote")
    assert reasons(s.vote(2)) == []


# ---------------------------------------------------------------- late, absent, withheld


def test_decision_1_a_server_without_a_model_counts_as_there():
    """n = 4, f = 1: two late models, yet all four commit; the round goes on with two models."""
    s = Servers(settings(4), lazy={2: {"model"}, 3: {"model"}})
    s.until(None)
    assert s.state.height == 1 and s.aborts() == 0 and s.strikes() == []
    late = Servers(settings(4), lazy={2: {"commit"}, 3: {"commit"}})
    late.until(None)
    assert late.state.height == 0 and late.aborts() == 1  # silent ones do not count


def test_forty_per_cent_stragglers_do_not_abort():
    s = Servers(settings(10), lazy={i: {"model"} for i in range(4)})
    s.until(None)
    assert s.state.height == 1 and s.aborts() == 0
    assert len(s.state.balances) == 10  # those without a model still earn as voters


def test_too_few_models_abort_and_the_number_moves_on():
    s = Servers(settings(4), lazy={i: {"model"} for i in range(3)})
    s.until(None)
    assert (s.state.round, s.state.height, s.aborts()) == (2, 0, 1)
    assert [e for e in s.effects if isinstance(e, fx.Abort)] == [fx.Abort(1, "too few models")]
    s.lazy = {}
    s.until(None)
    assert (s.state.round, s.state.height) == (3, 1)
    assert s.state.aborts == 1 and s.state.scale != 0


def test_T09_who_never_reveals_is_struck_and_left_out():
    s = Servers(settings(4), lazy={1: {"reveal"}})
    s.until(Phase.BLOCK)
    assert s.strikes() == [(1, "late_reveal")] and s.node(1) not in s.state.roster
    s.until(None)
    assert s.state.history[s.node(1)] == -1_000_000
    assert s.state.height == 1


def test_T09_a_model_that_few_can_fetch_leaves_the_round():
    """n = 4, n - f = 3: shown to one server only it goes, shown to three it stays."""
    for others, struck in (((1,), [(0, "withheld_data")]), ((1, 2, 3), [])):
        s = Servers(settings(4)).until(Phase.AVAIL)
        root = s.state.reveals[s.node(0)][0]
        for i in range(4):
            s.avail(i, without=() if i in others else (root,))
        s.mark()
        assert s.strikes() == struck
        assert (s.node(0) in s.state.roster) == (not struck)


def test_availability_of_roots_nobody_revealed_does_not_count():
    s = Servers(settings(4)).until(Phase.AVAIL)
    s.send(0, Avail((bytes(32),) * 5))
    assert s.state.avails[s.node(0)] == ()
    unchanged(s, lambda: s.avail(0), "duplicate")


def test_who_does_not_vote_keeps_its_weight():
    s = Servers(settings(4), lazy={1: {"vote_commit"}, 2: {"vote"}})
    s.until(None)
    assert s.strikes() == [(2, "late_reveal")]
    assert s.state.absences == {s.node(1): 1, s.node(2): 1}
    assert s.state.history[s.node(1)] == 0 and s.state.history[s.node(2)] == -1_000_000
    assert s.state.history[s.node(0)] > 0


def test_nobody_votes_and_the_round_still_ends():
    s = Servers(settings(4), lazy={i: {"vote_commit"} for i in range(4)})
    s.until(None)
    assert s.state.height == 1 and s.strikes() == []


def test_open_votes_need_no_commitment():
    s = Servers(settings(4, commit_votes=False))
    s.until(None)
    assert s.state.height == 1 and s.strikes() == []
    assert not any(e.kind.value == "vote_commit" for e in s.stream)
    silent = Servers(settings(4, commit_votes=False), lazy={1: {"vote"}})
    silent.until(None)
    assert silent.strikes() == [] and silent.state.absences == {silent.node(1): 1}


def test_self_votes_can_be_refused_and_votes_for_absent_servers_do_not_count():
    s = Servers(settings(4, self_votes=False), models={i: near(i) for i in range(4)})
    s.choices = {0: 0, 1: 1, 2: 0, 3: 0}
    s.until(None)
    counted = s.state.history
    assert counted[s.node(0)] == counted[s.node(1)] == 0  # as absent: no score, no strike
    assert counted[s.node(2)] > 0 and s.strikes() == []
    gone = Servers(settings(4), lazy={3: {"model"}}, choices={0: 3})
    gone.until(None)
    assert gone.state.history[gone.node(0)] == 0 and gone.strikes() == []


def test_votes_elect_and_bribed_ones_do_not_below_half():
    """n = 7: three of seven vote another server; the leader stays the crowd's."""
    s = Servers(settings(7), models={i: near(i) for i in range(7)})
    s.until(Phase.VOTE_COMMIT)
    best = s.evaluated().best[0]
    target = next(i for i in range(7) if s.node(i) != best)
    s.choices = dict.fromkeys([i for i in range(7) if s.node(i) != best][:3], target)
    s.until(Phase.BLOCK)
    assert s.node(s.author()) == best
    s.until(None)
    bribed = [s.state.history[s.node(i)] for i in s.choices]
    assert max(bribed) < 0


def test_T13_a_bribed_majority_elects_but_does_not_change_the_model():
    s, honest = (Servers(settings(5), models={i: near(i) for i in range(5)}) for _ in range(2))
    s.choices = dict.fromkeys(range(5), 3)
    s.until(Phase.BLOCK), honest.until(Phase.BLOCK)
    assert s.author() == 3
    roots = [m.machine._outcome(b"").global_root for m in (s, honest)]
    assert roots[0] == roots[1]


def test_audited_votes_strike():
    rule = Btsv("audited")
    s = Servers(settings(4, btsv=rule), models={i: near(i) for i in range(4)})
    s.until(Phase.VOTE_COMMIT)
    wrong = next(i for i in range(4) if s.node(i) not in s.evaluated().best)
    s.choices = {2: wrong}
    s.until(None)
    assert s.strikes() == [(2, "wrong_vote")] and s.state.history[s.node(2)] == -3_000_000


@pytest.mark.parametrize("variant", ["prelec", "loo", "collapsed", "rbts"])
def test_every_variant_plays(variant):
    s = Servers(settings(4, btsv=Btsv(variant)))
    s.until(None).until(None)
    assert s.state.height == 2


def test_cooldown_rotates_leaders_in_the_machine():
    s = Servers(settings(7, fairness=Fairness("cooldown", cooldown=2)),
                models={i: near(i) for i in range(7)})  # fmt: skip
    for _ in range(6):
        s.until(None)
    leaders = [e.author for e in s.effects if isinstance(e, fx.ImportBlock)]
    assert all(a not in leaders[max(0, i - 2) : i] for i, a in enumerate(leaders))


# ---------------------------------------------------------------- snapshots, evaluation, settings


def test_a_snapshot_continues_where_it_was_taken():
    s = Servers(settings(4), lazy={1: {"reveal"}})
    s.until(None)
    s.until(Phase.VOTE_COMMIT)
    other = RoundMachine(s.settings, check=CHECK)
    other.restore(s.machine.snapshot())
    assert other.state_hash() == s.machine.state_hash()
    assert kinds(other.opening()) == ["Evaluate", "CastVote", "SetTimer"]
    other.provide(s.evaluated())
    seen = len(s.stream)
    s.until(None)
    for entry in s.stream[seen:]:
        other.apply(entry)
    assert other.state_hash() == s.machine.state_hash() and other.state.height == 2
    with pytest.raises(DataError):
        other.restore(b"\xc0")
    with pytest.raises(DataError):
        State.decode(b"")


def test_the_tally_waits_for_the_local_evaluation():
    s = Servers(settings(4)).until(Phase.VOTE)
    for i in range(4):
        s.vote(i)
    mark = Entry.sign(keys(4)[0], CHAIN, 1, Mark(Phase.VOTE, 0, 0))
    assert s.machine.stalls(mark)
    with pytest.raises(ConfigError, match="provide"):
        s.machine.apply(mark)
    before = s.machine.state_hash()
    with pytest.raises(ConfigError, match="round 1"):
        s.machine.provide(replace(s.evaluated(), round=2))
    s.machine.provide(s.evaluated())
    assert s.machine.state_hash() == before and not s.machine.stalls(mark)
    s.machine.apply(mark)
    assert s.state.phase == Phase.BLOCK
    forged = replace(mark, signature=bytes(65))
    assert not s.machine.stalls(forged)


def test_nothing_to_propose_before_the_tally():
    with pytest.raises(ConfigError, match="votes are counted"):
        Servers(settings(4)).machine.proposal(nodes(4)[0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"members": nodes(1)}, {"members": nodes(2) * 2}, {"members": (b"a", b"b")},
        {"chain_id": -1}, {"scale": 41}, {"head": b""}, {"faults": "rational"},
        {"floor_ppm": 300_000}, {"floor_ppm": 0}, {"exile": 0}, {"size_cap": -1},
        {"fairness": Fairness("cooldown", cooldown=2)},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong):
    """n = 4, f = 1: a cooldown may take 4 - 2 - 1 = 1 leader out."""
    with pytest.raises(ConfigError):
        Settings(**{"chain_id": CHAIN, "members": nodes(4), **wrong})


# ---------------------------------------------------------------- equivocation


def two_commits(i, round_=1):
    return [
        Entry.sign(keys(4)[i], CHAIN, round_, Commit(bytes([b]) * 32, 5, bytes(32), 7))
        for b in (1, 2)
    ]


def test_T06_equivocation_removes_a_server_for_the_next_blocks():
    """n = 5, exile 3: caught in round 1, out of blocks 2, 3, 4, back in block 5."""
    s = Servers(settings(5))
    first, second = two_commits(3)
    s.order(first)
    unchanged(s, lambda: s.order(second), "duplicate")
    proof = Fraud(first.encode(), second.encode())
    assert s.send(0, proof) == [fx.Strike(s.node(3), "equivocation"), fx.Removed(s.node(3), 1, 3)]
    unchanged(s, lambda: s.send(1, proof), "already_punished")
    assert s.node(3) in s.members  # of the round that began with it
    s.lazy = {3: {"commit", "reveal"}}
    s.until(None)
    for _ in range(3):
        assert s.node(3) not in s.members and len(s.members) == 4
        unchanged(s, lambda: s.send(3, Mark(0, 0, 1)), "exiled")
        s.lazy = {}
        s.until(None)
    assert s.node(3) in s.members
    unchanged(s, lambda: s.send(1, proof), "already_punished")
    s.until(None)
    assert s.state.history[s.node(3)] < -20_000_000  # nothing it had earned survives
    assert s.strikes() == [(3, "equivocation"), (3, "late_reveal")]


def test_an_equivocator_earns_nothing_by_its_model():
    s = Servers(settings(4), models={i: near(i) for i in range(4)}).until(Phase.REVEAL)
    other = Entry.sign(keys(4)[2], CHAIN, 1, Commit(bytes([9]) * 32, 5, bytes(32), 7))
    mine = next(e for e in s.stream if e.sender == s.node(2))
    s.send(0, Fraud(mine.encode(), other.encode()))
    s.until(None)
    assert s.state.balances[s.node(2)] < 20_000 < s.state.balances[s.node(1)]


def test_honest_servers_cannot_be_convicted():
    a, b = two_commits(2)
    c, _ = two_commits(3)
    d, _ = two_commits(2, round_=2)
    s = Servers(settings(4))
    marks = [Entry.sign(keys(4)[2], CHAIN, 1, Mark(0, 0, t)) for t in (0, 1)]
    foreign = [
        Entry.sign(keys(4)[2], 5, 1, Commit(bytes([x]) * 32, 5, bytes(32), 7)) for x in (1, 2)
    ]
    future = two_commits(2, round_=9)
    cases = {
        "no_contradiction": (a, a),
        "not_the_same_place": (a, c),
        "forged": (a, replace(b, signature=a.signature)),
        "other_round": tuple(future),
    }
    for why, (x, y) in cases.items():
        unchanged(s, lambda x=x, y=y: s.send(0, Fraud(x.encode(), y.encode())), why)
    unchanged(s, lambda: s.send(0, Fraud(a.encode(), d.encode())), "not_the_same_place")
    unchanged(s, lambda: s.send(0, Fraud(*(m.encode() for m in marks))), "no_contradiction")
    unchanged(s, lambda: s.send(0, Fraud(*(m.encode() for m in foreign))), "no_contradiction")
    unchanged(s, lambda: s.send(0, Fraud(b"x", b"y")), "malformed")
    assert s.strikes() == []


def test_two_votes_and_two_blocks_convict_too():
    s = Servers(settings(4)).until(Phase.VOTE)
    vote = s.ballot(1)
    pair = [Entry.sign(keys(4)[1], CHAIN, 1, v) for v in (vote, replace(vote, nonce=bytes(32)))]
    assert kinds(s.send(0, Fraud(*(e.encode() for e in pair)))) == ["Strike", "Removed"]
    s.until(Phase.BLOCK)
    leader = s.author()
    honest = s.machine.proposal(s.node(leader))
    pair = [s._signed(leader, b) for b in (honest, replace(honest, time_s=5))]
    if leader != 1:
        assert kinds(s.send(2, Fraud(*(e.encode() for e in pair)))) == ["Strike", "Removed"]
