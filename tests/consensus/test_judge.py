"""No phase ends for lack of time before its least time, whoever proposes the order."""

from dataclasses import replace

import pytest

from consensus.bft.messages import NIL, digest_of
from consensus.faults.rush import Rush
from consensus.identity import Key
from consensus.judge import Judge
from consensus.network.links import Constant, Link
from consensus.ordering import BftOrdering, RaftOrdering
from consensus.pofel.effects import SetTimer
from consensus.pofel.messages import Avail, Entry, Mark
from consensus.pofel.settings import Timeouts
from consensus.pofel.state import Phase
from consensus.protocol import Faulty, PoFEL
from consensus.server import PARTIAL
from fedalign.core.errors import ConfigError
from tests.consensus.bft.bench import Bench, proposal
from tests.consensus.rounds import agree

QUICK = {"train_ms": 300, "commit_ms": 400, "reveal_ms": 400, "avail_ms": 400,
         "evaluate_ms": 200, "vote_ms": 400, "block_ms": 400}  # fmt: skip


class Clock:
    now_ms = 0.0

    def __call__(self):
        return self.now_ms


def watched(**more):
    """A server in the COMMIT phase of round 1, its judge and the judge's clock."""
    chain = PoFEL(4, timeouts=Timeouts(**{**QUICK, **more}), measure_cpu=False)
    chain.open(None)
    clock, server = Clock(), chain.members[0]
    return chain, server, Judge(server, clock), clock


def mark(chain, round_=1, phase=Phase.COMMIT, rank=0, timeout=1, by=3):
    key, id = chain.members[by].key, chain.chain_id
    return Entry.sign(key, id, round_, Mark(int(phase), rank, timeout), rank).encode()


def test_a_mark_is_refused_before_the_least_time_and_accepted_for_ever_after():
    chain, _server, judge, clock = watched(min_phase_ms=150)
    early = mark(chain)
    assert not judge(1, (early,))  # the phase has not begun here
    judge.started(SetTimer(1, Phase.COMMIT, 0, 400))
    clock.now_ms = 149.0
    assert not judge(1, (early,)) and not judge(1, (mark(chain, timeout=0), early))
    clock.now_ms = 150.0
    assert judge(1, (early,))
    clock.now_ms = 0.0  # a clock that is set back takes no yes back
    assert judge(1, (early,))


def test_training_and_evaluation_come_on_top_of_the_least_time():
    """COMMIT: 300 ms of training, or less once f + 1 have committed. VOTE_COMMIT: 200 ms of work."""
    chain, _server, judge, clock = watched(min_phase_ms=100)
    judge.started(SetTimer(1, Phase.COMMIT, 0, 300 + 400))
    clock.now_ms = 399.0
    assert not judge(1, (mark(chain),))
    clock.now_ms = 250.0
    judge.started(SetTimer(1, Phase.COMMIT, 0, 400))
    clock.now_ms = 350.0
    assert judge(1, (mark(chain),))
    judge.started(SetTimer(1, Phase.VOTE_COMMIT, 0, 200 + 400))
    judge.started(SetTimer(1, Phase.AVAIL, PARTIAL, 200))  # no timer of a phase
    clock.now_ms = 649.0
    assert not judge(1, (mark(chain, phase=Phase.VOTE_COMMIT),))
    clock.now_ms = 650.0
    assert judge(1, (mark(chain, phase=Phase.VOTE_COMMIT),))
    assert not judge(1, (mark(chain, phase=Phase.AVAIL),))


def test_what_ends_nothing_or_needs_no_time_is_no_matter_of_the_clock():
    chain, server, judge, _ = watched()
    item = Entry.sign(chain.members[1].key, chain.chain_id, 1, Avail(())).encode()
    assert judge(1, (mark(chain, timeout=0), item))
    agree(chain)
    assert server.machine.state.round == 2
    assert judge(2, (mark(chain),)) and not judge(2, (mark(chain, round_=2),))


def test_what_can_never_be_an_entry_of_this_chain_is_counted_once_and_not_ordered():
    """T-07, T-08: before anything is ordered, by reason."""
    chain, _server, judge, _ = watched()
    good = Entry.decode(mark(chain, timeout=0))
    stranger, twin = Key(bytes([9]) * 32), good.signature[:64] + bytes([1 - good.signature[64]])
    bad = {
        "malformed": b"no entry",
        "forged": replace(good, signature=twin).encode(),
        "foreign_chain": replace(good, chain_id=1).encode(),
        "no_member": Entry.sign(stranger, chain.chain_id, 1, good.content).encode(),
        "recovery_id": replace(good, signature=good.signature[:64] + b"\x1b").encode(),
    }
    for _ in range(2):
        assert not any(judge(1, (data,)) or judge.admits(data) for data in bad.values())
    assert judge.refused == dict.fromkeys(bad, 1)
    assert judge.admits(good.encode()) and judge.refused.total() == 5


def test_the_least_time_is_at_most_every_time_out():
    assert Timeouts(**QUICK).least_ms == 400 and Timeouts(**QUICK, min_phase_ms=7).least_ms == 7
    with pytest.raises(ConfigError, match="min_phase_ms=401 is above the shortest time-out, 400"):
        Timeouts(**QUICK, min_phase_ms=401)
    with pytest.raises(ConfigError, match="above 0 ms"):
        Timeouts(min_phase_ms=0)


# ---------------------------------------------------------------- in the core


def test_a_refused_batch_gets_no_prevote_and_a_refused_item_waits_outside_the_pool():
    """Server 1 proposes at (height 1, round 0) what is refused until tick 5."""
    bench = Bench(id=0)
    bench.core.valid = lambda height, batch: b"early" not in batch or bench.core.now >= 5
    bench.hear(proposal(0, (b"early",), 1))
    assert bench.prevotes() == [(0, NIL)]
    assert bench.ask(b"early").status == "accepted" and bench.core.next_batch() == ()
    assert bench.ask(b"early").reason == "it waits already"
    assert bench.ask(b"good").status == "accepted" and bench.core.next_batch() == (b"good",)
    bench.tick(5)
    assert bench.core.next_batch() == (b"good", b"early")
    in_time = Bench(id=0)
    in_time.core.valid = lambda height, batch: True
    in_time.hear(proposal(0, (b"early",), 1))
    assert in_time.prevotes() == [(0, digest_of((b"early",)))]


# ---------------------------------------------------------------- in a round


def members(ordering, **timeouts):
    """Who is in a round of four; all that server 2 sends takes 0.7 s; server 3 rushes."""
    slow = {(2, i): Link(Constant(700_000)) for i in (0, 1, 3)}
    chain = PoFEL(
        4, ordering=ordering, links=slow, faults=[Faulty(Rush("commit"), (3,))],
        timeouts=Timeouts(commit_ms=2000, **timeouts), measure_cpu=False, recompute=False,
    )  # fmt: skip
    chain.open(None)
    return agree(chain).members


def test_a_lying_proposer_cannot_shut_out_a_slow_server_where_liars_are_tolerated():
    assert members(BftOrdering()) == (0, 1, 2, 3)
    assert members(BftOrdering(), min_phase_ms=40) == (0, 1, 3)  # in time: accepted
    assert members(RaftOrdering()) == (0, 1, 3)  # no claim about liars


def test_rush_names_its_phases():
    with pytest.raises(ConfigError, match="rushes one of all, commit"):
        Rush("evaluate")
