"""Any stream of entries: S2 same state everywhere, S3 and S4 nothing unopened counts, S6 no unit is
lost, S7 no strike without its evidence."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st

from consensus.pofel import effects as fx
from consensus.pofel import hcds
from consensus.pofel.btsv import Btsv
from consensus.pofel.machine import RoundMachine
from consensus.pofel.messages import Commit, Entry, Fraud, Kind, Mark
from consensus.pofel.outcome import Outcome
from consensus.pofel.state import Phase, State
from tests.consensus.pofel.servers import CHAIN, CHECK, Servers, keys, settings

SLOTS = [{"model"}, {"commit"}, {"reveal"}, {"avail"}, {"vote_commit"}, {"vote"}, {"block"}]
STEPS = budget(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def evidence(stream, round_):
    """What a reader of the stream can know of a round: kind -> sender -> first body."""
    found: dict = {}
    for entry in stream:
        if entry.round == round_:
            found.setdefault(entry.kind, {}).setdefault(entry.sender, entry)
    return found


def holds(s: Servers) -> None:
    """The invariants, after every entry."""
    state, seen = s.state, evidence(s.stream, s.state.round)
    for node in state.roster:  # S3
        commit = seen[Kind.COMMIT][node].content
        root, opened, _ = state.reveals[node]
        assert hcds.open_ok(commit.commitment, CHAIN, state.round, node, root, opened)
    for node, (choice, shares) in state.votes.items():  # S4
        vote = seen[Kind.VOTE][node].content
        assert (vote.choice, vote.prediction_ppm) == (choice, shares)
        told = hcds.commit_vote(CHAIN, state.round, node, choice, shares, vote.nonce)
        assert told == seen[Kind.VOTE_COMMIT][node].content.commitment
    paid = sum(state.balances.values())
    assert paid + state.treasury == state.minted == state.height * s.settings.rewards.units  # S6
    assert sum(state.weights(s.settings).values()) == 1_000_000
    assert len(state.recent) <= 1 and state.round == 1 + state.height + state.aborts


@STEPS
@given(data=st.data(), n=st.integers(2, 7))
def test_streams_with_faults_noise_and_repetition(data, n):
    """Lazy servers, duplicated and shuffled entries, foreign marks: two machines, one of them
    restored from a snapshot now and then, agree after every entry."""
    s = Servers(settings(n))
    twin = RoundMachine(s.settings, check=CHECK)
    followed = 0
    for _ in range(data.draw(st.integers(1, 14))):
        f = max((n - 1) // 3, 0)
        idle = data.draw(st.lists(st.integers(0, n - 1), max_size=f + 1, unique=True))
        s.lazy = {i: data.draw(st.sampled_from(SLOTS)) for i in idle}
        if s.state.phase == Phase.BLOCK and "block" in s.lazy.get(s.author(), ()):
            s.mark()
        else:
            s.step()
        for entry in data.draw(st.lists(st.sampled_from(s.stream), max_size=4)):
            before = s.machine.state_hash()
            found = s.order(entry)  # everything in the stream has had its effect already
            assert [type(e) for e in found] == [fx.Ignored] and s.machine.state_hash() == before
        for entry in s.stream[followed:]:
            if twin.stalls(entry):
                twin.provide(s.evaluator(twin.state.task(s.settings), s.store))
            twin.apply(entry)
        followed = len(s.stream)
        assert twin.state_hash() == s.machine.state_hash()  # S2
        assert State.decode(twin.snapshot()) == twin.state
        if data.draw(st.booleans()):
            twin.restore(s.machine.snapshot())
        holds(s)


@STEPS
@given(
    n=st.sampled_from([4, 7]),
    faulty=st.integers(0, 6),
    what=st.sampled_from(SLOTS),
    rounds=st.integers(1, 3),
)
def test_S7_only_the_faulty_are_struck_and_honest_ones_stay_in(n, faulty, what, rounds):
    """One faulty server of n ≥ 4, everything else timely (L3): the round ends, nobody else is
    struck, every honest server is in R_k."""
    faulty %= n
    s = Servers(settings(n), lazy={faulty: what})
    for _ in range(rounds):
        s.until(Phase.BLOCK)
        others = {s.node(i) for i in range(n) if i != faulty}
        assert others <= set(s.state.roster)
        s.until(None)
        holds(s)
    assert s.aborts() == 0 and s.state.height == rounds
    assert {i for i, _ in s.strikes()} <= {faulty}
    expected = {"reveal": "late_reveal", "vote": "late_reveal"}
    told = [expected[x] for x in what if x in expected] * rounds
    assert [kind for _, kind in s.strikes()] == told


@STEPS
@given(data=st.data())
def test_noise_from_members_and_strangers_never_strikes_the_honest(data):
    """Signed rubbish between honest messages: nobody but convicted equivocators loses anything."""
    n = 4
    s = Servers(settings(n))
    rubbish = [
        Entry.sign(k, CHAIN, r, body, view)
        for k in keys(n + 1)
        for r in (1, 2)
        for body, view in (
            (Mark(5, 0, 1), 0),
            (Mark(1, 3, 1), 3),
            (Fraud(b"a", b"b"), 0),
            (Commit(bytes([9]) * 32, 5, bytes([8]) * 32, 0), 0),
        )
    ]
    while s.state.height < 1:
        for entry in data.draw(st.lists(st.sampled_from(rubbish), max_size=3)):
            if s.state.phase != Phase.BLOCK:
                found = s.order(entry)
                assert all(isinstance(e, fx.Ignored) for e in found)
        s.step()
    assert s.strikes() == [] and s.aborts() == 0


def test_one_changed_entry_changes_the_hash_from_there_on():
    s = Servers(settings(4)).until(None)
    place = next(i for i, e in enumerate(s.stream) if e.kind is Kind.COMMIT)
    one, other = (RoundMachine(s.settings, check=CHECK) for _ in range(2))
    entry = s.stream[place]
    changed = Entry.sign(keys(4)[0], CHAIN, 1, replace(entry.content, size=101))
    one.apply(entry), other.apply(changed)
    assert one.state_hash() != other.state_hash()


def honest(rounds):
    s = Servers(settings(7))
    for _ in range(rounds):
        s.until(None)
        s.stream.clear()
        s.store.clear()
    return s


def test_fifty_honest_rounds():
    s = honest(50)
    assert (s.state.height, s.strikes(), s.aborts()) == (50, [], 0)


@pytest.mark.slow
def test_a_thousand_honest_rounds():
    """n = 7: no strike, no abort; under prelec scores add up to zero within n micro-nats."""
    s = Servers(settings(7, btsv=Btsv("prelec")))
    for _ in range(1000):
        s.until(Phase.BLOCK)
        assert abs(sum(x[3] for x in Outcome.decode(s.state.outcome).scores)) <= 7
        s.until(None)
        s.stream.clear()
        s.store.clear()
    assert (s.state.height, s.strikes(), s.aborts()) == (1000, [], 0)
