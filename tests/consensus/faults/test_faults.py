"""Lying servers in whole rounds: what each lie earns, and that the others agree regardless."""

import numpy as np
import pytest

from consensus.bft.messages import Proposal, Vote
from consensus.faults.bribe import Bribe
from consensus.faults.equivocate import Equivocate
from consensus.faults.free_ride import FreeRide
from consensus.faults.misreport import Misreport
from consensus.faults.plagiarise import Plagiarise
from consensus.faults.withhold import Withhold
from consensus.ordering import BftOrdering, RaftOrdering
from consensus.pofel import bribery
from consensus.pofel.btsv import Btsv
from consensus.pofel.effects import Ignored
from consensus.pofel.messages import Kind
from consensus.pofel.prediction import PredictionRule
from consensus.protocol import Faulty, PoFEL
from fedalign.core.errors import ConfigError
from tests.consensus.rounds import agree

N = 7


def chain(fault=None, servers=(5, 6), **more):
    faults = [Faulty(fault, servers)] if fault is not None else []
    more = {"ordering": RaftOrdering(), "measure_cpu": False, **more}
    made = PoFEL(N, faults=faults, **more)
    made.open(None)
    return made


def struck(verdict):
    return {(server, kind) for server, kind in verdict.strikes}


HONEST = agree(chain())


# ---------------------------------------------------------------- bribes


@pytest.mark.parametrize("strategy", ["naive", "copycat", "calibrated", "optimal"])
def test_bribed_servers_lose_under_anchored_scores(strategy):
    verdict = agree(chain(Bribe(strategy)))
    best = HONEST.leader
    assert {verdict.votes[i] for i in range(5)} == {best} and verdict.leader == best
    assert {verdict.votes[i] for i in (5, 6)} == {5}  # the first briber's own model
    honest, bribed = verdict.scores[0], verdict.scores[5]
    assert bribed < 0 < honest and verdict.rewards[5] < HONEST.rewards[5]


@pytest.mark.parametrize("strategy", ["copycat", "calibrated", "optimal"])
def test_under_plain_scores_prediction_aware_bribes_pay(strategy):
    """2 of 7: the closed form with p and q as honest servers predict, at the floors."""
    verdict = agree(chain(Bribe(strategy), btsv=Btsv("prelec")))
    p, q = 0.894, 0.1 / 6 * 0.993 + 0.001
    most = 0.993 * 0.9 + 0.001
    formula = {
        "copycat": bribery.copycat(2 / 7, most, q),
        "calibrated": bribery.calibrated(2 / 7, q),
        "optimal": bribery.optimal(2 / 7, q),
    }[strategy]
    assert p < most < 0.9
    assert verdict.scores[5] / 1e6 == pytest.approx(formula, abs=0.01)  # floors move predictions
    assert verdict.scores[5] > 0 > verdict.scores[0]


def test_naive_bribes_lose_under_plain_scores_too():
    verdict = agree(chain(Bribe("naive"), btsv=Btsv("prelec")))
    assert verdict.scores[5] / 1e6 == pytest.approx(bribery.naive(2 / 7), abs=1e-5)


def test_audited_votes_strike_the_bribed():
    verdict = agree(chain(Bribe(), btsv=Btsv("audited")))
    assert struck(verdict) == {(5, "wrong_vote"), (6, "wrong_vote")}


def test_a_bribed_majority_elects_but_the_model_stays_the_same():
    verdict = agree(chain(Bribe(target=5), (0, 1, 2, 5)))
    assert verdict.leader == 5
    assert verdict.block.root == HONEST.block.root


# ---------------------------------------------------------------- plagiarism


def test_T01_a_copied_commitment_does_not_open():
    verdict = agree(chain(Plagiarise("commitment"), (6,)))
    assert struck(verdict) == {(6, "late_reveal")} and 6 not in verdict.members
    assert verdict.rewards[6] <= HONEST.rewards[6] - 100_000  # its vote's bonus is all it has


def test_T02_a_copy_after_the_reveal_comes_too_late():
    made = chain(Plagiarise("late"), (6,))
    verdict = agree(made)
    assert 6 not in verdict.members and not verdict.strikes
    assert Kind.COMMIT in made.members[6].sent  # it tried
    assert Ignored("other_phase") in made.members[0].seen


@pytest.mark.parametrize(("noise", "earns"), [(0.0, False), (0.0005, False), (0.01, True)])
def test_T03_near_copies_earn_nothing_below_the_threshold_only(noise, earns):
    verdict = agree(chain(Plagiarise("near", noise=noise), (6,)), d=256)
    alone = verdict.rewards[0]
    assert 6 in verdict.members
    assert (verdict.rewards[6] > 0.3 * alone) == earns


# ---------------------------------------------------------------- two faces


@pytest.mark.parametrize("what", ["commit", "vote"])
def test_T06_two_faced_servers_are_convicted_and_leave(what):
    made = chain(Equivocate(what), (0, 3))
    verdict = agree(made)
    assert struck(verdict) == {(0, "equivocation"), (3, "equivocation")}
    assert verdict.block.root == HONEST.block.root
    following = agree(made, 2)
    assert set(following.members) == {1, 2, 4, 5, 6} and not following.strikes
    assert following.cost.latency_s < 0.1  # the order's leader left, and nobody waits for it


def test_T06_over_a_byzantine_order_too():
    made = chain(Equivocate("commit"), (0, 3), ordering=BftOrdering())
    assert struck(agree(made)) == {(0, "equivocation"), (3, "equivocation")}
    made.down = (0, 1, 3)  # 4 of the 5 members are a quorum of them; of all 7 it would be 5
    assert agree(made, 2).members == (2, 4, 5, 6)


@pytest.mark.parametrize("ordering", [RaftOrdering(), BftOrdering()], ids=["raft", "bft"])
def test_who_is_exiled_hears_the_order_and_has_no_voice_in_it(ordering):
    one, exile = [ordering.core(i, 4, np.random.default_rng(i), out=(3,)) for i in (0, 3)]
    for core in (one, exile):
        voters = core.tracker.conf.voters if isinstance(ordering, RaftOrdering) else core.members
        assert tuple(voters) == (0, 1, 2)
    for _ in range(100):
        exile.tick()
    exile.propose(b"mine")
    said = exile.ready()
    kinds = {type(getattr(m, "body", m)) for m in (*said.messages, *said.messages_after_persist)}
    assert not kinds & {Vote, Proposal} and exile.id not in (ordering.leader(exile),)


def test_T06_two_blocks_convict_their_author_in_the_next_round():
    """The second block is ordered after the first was accepted."""
    made = chain(Equivocate("block"), (HONEST.leader,))
    verdict = agree(made)
    assert verdict.leader == HONEST.leader and verdict.block.root == HONEST.block.root
    assert struck(agree(made, 2)) == {(HONEST.leader, "equivocation")}
    assert HONEST.leader not in agree(made, 3).members


# ---------------------------------------------------------------- silence


@pytest.mark.parametrize(
    ("what", "kind", "members"),
    [
        ("commit", None, (2, 3, 4, 5, 6)),
        ("reveal", "late_reveal", (2, 3, 4, 5, 6)),
        ("avail", None, tuple(range(N))),
        ("vote_commit", None, tuple(range(N))),
        ("vote", "late_reveal", tuple(range(N))),
        ("data", "withheld_data", (2, 3, 4, 5, 6)),
    ],
)
def test_T09_what_is_not_delivered(what, kind, members):
    verdict = agree(chain(Withhold(what), (0, 1)))
    assert verdict.members == members and verdict.aborted == 0
    assert struck(verdict) == ({(0, kind), (1, kind)} if kind else set())


def test_T09_a_model_that_most_have_is_served_by_them():
    verdict = agree(chain(Withhold("data", served=5), (6,)))
    assert verdict.members == tuple(range(N)) and not verdict.strikes
    assert verdict.block.root == HONEST.block.root


def test_T10_a_silent_leader_is_replaced():
    verdict = agree(chain(Withhold("block"), (HONEST.leader,)))
    assert verdict.leader != HONEST.leader and verdict.block.root == HONEST.block.root
    assert 5 < verdict.cost.latency_s < 5.2  # one block timeout


# ---------------------------------------------------------------- no work, wrong blocks


def test_T04_a_free_rider_earns_its_vote_and_never_leads():
    verdict = agree(chain(FreeRide(), (6,)))
    assert verdict.leader != 6 and verdict.rewards[6] < 10_000


def test_claimed_samples_move_the_mean_unless_they_are_capped():
    """70 samples told as 7000 weigh 7000 of 7210; capped at twice the lower median, 80."""
    free, capped = (
        agree(chain(FreeRide(0.01, 100), (6,), size_cap=cap)).aggregate.coefficients[6]
        for cap in (0, 2)
    )
    assert float(free) == pytest.approx(7000 / 7210, abs=1e-6)
    assert float(capped) == pytest.approx(80 / 290, abs=1e-6)


@pytest.mark.parametrize(
    "about", ["aggregate", "tally", "scores", "rewards", "parent", "time", "evidence"]
)
def test_T11_a_wrong_block_is_refused_by_all_and_the_next_rank_writes(about):
    verdict = agree(chain(Misreport(about), (HONEST.leader,)))
    assert struck(verdict) == {(HONEST.leader, "bad_block")}
    assert verdict.leader != HONEST.leader and verdict.block.root == HONEST.block.root
    assert verdict.cost.latency_s < 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Bribe("clever"),
        lambda: Plagiarise("quietly"),
        lambda: Plagiarise("near", noise=-1.0),
        lambda: Equivocate("reveal"),
        lambda: Withhold("nothing"),
        lambda: FreeRide(-1.0),
        lambda: FreeRide(0.0, 0),
        lambda: Misreport("weather"),
    ],
)
def test_lies_that_do_not_exist_are_refused(wrong):
    with pytest.raises(ConfigError, match="got"):
        wrong()


def test_honest_predictions_are_what_the_forms_assume():
    rule = PredictionRule()
    assert rule.most_ppm == 900_000 and rule.kind == "most_on_choice"
