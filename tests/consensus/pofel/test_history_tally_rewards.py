"""From scores to weights, from weights to a leader, from a leader to pay."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.pofel.beacon import ticket
from consensus.pofel.btsv import Btsv, score
from consensus.pofel.history import PENALTIES, History, update_history, weights
from consensus.pofel.prediction import PredictionRule, floored, predict
from consensus.pofel.rewards import RewardRule, distribute
from consensus.pofel.shares import split
from consensus.pofel.tally import Fairness, tally
from fedalign.core.errors import ConfigError

NODES = [bytes([65 + i]) * 20 for i in range(5)]


def test_O_W():
    """H = .9 (1, .5, 0, .2) + scores of O-B1; then weights, then V_0 of three votes."""
    rows = ((7, 1, 1, 1), (6, 2, 1, 1), (7, 1, 1, 1), (1, 7, 1, 1))
    scores = score((0, 0, 0, 1), rows, Btsv("prelec")).total
    h = update_history([1_000_000, 500_000, 0, 200_000], scores, [0] * 4)
    assert h == [1_213_191, 820_865, 313_191, -817_246]
    w = weights(h)
    assert w == [299_794, 275_672, 242_937, 181_597]
    ranked = tally([NODES[0]] * 3 + [NODES[1]], w, b"b", NODES[:4])
    assert dict(ranked.totals)[NODES[0]] == 818_403 and ranked.leader == NODES[0]
    assert sum(w) == 1_000_000


def test_absent_struck_and_clipped():
    """γ = .9: absent .9 H; struck .9 H - penalty and no score; scores beyond ±3 are clipped."""
    found = update_history(
        [1_000_000] * 4, [None, 500_000, 9_000_000, -9_000_000], [0, PENALTIES["late_reveal"], 0, 0]
    )
    assert found == [900_000, -100_000, 3_900_000, -2_100_000]


@given(st.lists(st.integers(-(10**8), 10**8), min_size=1, max_size=20))
def test_weights_are_bounded_and_a_quarter_cannot_lead(history):
    """ω_i/ω_j ≤ 3, so a coalition of share β holds at most 3β/(1+2β) of the weight: less than
    half below one quarter."""
    w = weights(history)
    n = len(w)
    assert sum(w) == 1_000_000 and max(w) <= 3 * (min(w) + 1)
    order = sorted(range(n), key=lambda i: history[i])
    assert all(w[i] <= w[j] + 1 for i, j in pairwise(order))  # a ppm of rest
    b = (n - 1) // 4
    top = sum(sorted(w)[n - b :]) if b else 0
    assert top <= 1e6 * 3 * b / (n + 2 * b) + n


@given(st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=9))
def test_weights_match_floats(history):
    ordered = sorted(history)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    raw = [0.5 + 1 / (1 + math.exp(min((middle - h) / 1e6, 700))) for h in history]
    assert [x / 1e6 for x in weights(history)] == pytest.approx(
        [r / sum(raw) for r in raw], abs=2e-6
    )


def test_T17_whitewash_decays_with_gamma():
    """Ten good rounds at 3 give 3 (1 - .9^10)/.1 = 19.54; it takes 19 rounds to fall below 2.7."""
    h = [0]
    for _ in range(10):
        h = update_history(h, [3_000_000], [0])
    assert h[0] == pytest.approx(19_539_647, abs=10)
    rounds = 0
    while h[0] > 2_700_000:
        h, rounds = update_history(h, [None], [0]), rounds + 1
    assert rounds == 19


def test_history_settings_are_checked():
    for wrong in ({"gamma_ppm": 1_000_001}, {"low_ppm": 0}, {"low_ppm": 2_000_000},
                  {"temperature_micro": 0}, {"s_max_micro": 0}):  # fmt: skip
        with pytest.raises(ConfigError):
            History(**wrong)


# ---------------------------------------------------------------- the leader


def test_no_votes_the_beacon_ranks():
    ranked = tally([], [], b"b", NODES)
    assert list(ranked.order) == sorted(NODES, key=lambda node: ticket(b"b", node))


def test_cooldown_puts_recent_leaders_behind():
    votes, w = [NODES[0]] * 3 + [NODES[1]] * 2, [10] * 5
    rule = Fairness("cooldown", cooldown=2)
    assert tally(votes, w, b"b", NODES, rule, recent=[NODES[0]]).leader == NODES[1]
    both = tally(votes, w, b"b", NODES, rule, recent=[NODES[1], NODES[0]])
    assert both.leader not in NODES[:2] and set(both.order[-2:]) == set(NODES[:2])
    assert both.winner == NODES[0]  # scores still compare with the crowd's choice
    old = tally(votes, w, b"b", NODES, rule, recent=[NODES[0], NODES[2], NODES[3]])
    assert old.leader == NODES[0]
    only = tally([NODES[0]], [1], b"b", NODES[:1], rule, recent=NODES[:1])
    assert only.leader == NODES[0]  # nobody else is there


def test_share_divides_by_leaderships_exactly():
    """V = (60, 40), 10 blocks, wins (5, 0), ρ = 1: 60/1.5 = 40, an exact tie for the beacon."""
    votes, rule = [NODES[0], NODES[1]], Fairness("share", rho_ppm=1_000_000)

    def leader(first, wins):
        return tally(
            votes, [first, 40], b"b", NODES[:2], rule, wins={NODES[0]: wins}, rounds=10
        ).leader

    assert leader(61, 5) == NODES[0] and leader(59, 5) == NODES[1]
    assert leader(60, 5) == min(NODES[:2], key=lambda n: ticket(b"b", n))
    assert leader(60, 4) == NODES[0] and leader(60, 6) == NODES[1]


def test_fairness_spreads_leaderships():
    """100 rounds, everybody votes the same server: Jain 1/5 without fairness, about 1/2 (two in
    turn) with a cooldown of one, above .9 with cooldown 4."""

    def jain(rule):
        wins, recent = dict.fromkeys(NODES, 0), []
        for r in range(100):
            votes = [NODES[0]] * 3 + [NODES[1]] * 2
            first = tally(
                votes, [1] * 5, bytes([r]), NODES, rule, wins=wins, rounds=r, recent=recent
            ).leader
            wins[first] += 1
            recent.append(first)
        return sum(wins.values()) ** 2 / (5 * sum(x * x for x in wins.values()))

    assert jain(Fairness()) == pytest.approx(0.2)
    assert jain(Fairness("cooldown", cooldown=1)) == pytest.approx(0.4)
    assert jain(Fairness("cooldown", cooldown=4)) > 0.9
    assert jain(Fairness("share", rho_ppm=3_000_000)) > 0.25


def test_copies_and_idle_servers_rank_last():
    ranked = tally([NODES[0]] * 2, [5, 5], b"b", NODES, last=[NODES[0]])
    assert ranked.order[-1] == NODES[0] and ranked.winner == NODES[0]


# ---------------------------------------------------------------- pay


@given(whole=st.integers(0, 10**9), parts=st.lists(st.integers(0, 10**6), min_size=1, max_size=12))
def test_a_split_is_exact_and_fair_to_one_unit(whole, parts):
    found = split(whole, parts)
    total = sum(parts)
    assert sum(found) == (whole if total else 0)
    for x, part in zip(found, parts, strict=True):
        assert not total or abs(x - whole * part / total) < 1 + 1e-6


def test_pay_by_hand():
    """1000 units: 50 to the leader, 50 to voters, 450 by samples (1:2), 450 by likeness (3:1)."""
    pay, treasury = distribute(
        RewardRule(1000), {NODES[0]: 1, NODES[1]: 2}, {NODES[0]: 3, NODES[1]: 1}, NODES[1],
        {NODES[0]: 10, NODES[1]: -5},
    )  # fmt: skip
    # 450/3 = 150 and 300; 337.5 and 112.5: the last unit to the first; the leader's 50 to B
    assert pay == {NODES[0]: 150 + 338 + 50, NODES[1]: 300 + 112 + 50} and treasury == 0


def test_parts_nobody_earns_go_to_the_treasury():
    pay, treasury = distribute(RewardRule(1000), {NODES[0]: 1}, {NODES[0]: -5}, NODES[0], {})
    assert pay == {NODES[0]: 450 + 50} and treasury == 450 + 50
    pay, treasury = distribute(
        RewardRule(1000), {NODES[0]: 1}, {NODES[0]: 5}, NODES[1], {}, [NODES[0]]
    )
    assert pay == {NODES[1]: 50} and treasury == 950


@given(
    units=st.integers(0, 10**12), theta=st.integers(0, 10**6), leader=st.integers(0, 500_000),
    voters=st.integers(0, 500_000), data=st.data(),
)  # fmt: skip
def test_S6_no_unit_is_lost_or_made(units, theta, leader, voters, data):
    some = st.fixed_dictionaries({n: st.integers(-(10**9), 10**9) for n in NODES})
    sizes = {n: abs(x) for n, x in data.draw(some).items()}
    rule = RewardRule(units, theta, leader, voters)
    pay, treasury = distribute(rule, sizes, data.draw(some), NODES[0], data.draw(some))
    assert sum(pay.values()) + treasury == units
    assert min([treasury, *pay.values()]) >= 0


@pytest.mark.parametrize("wrong", [{"units": -1}, {"leader_ppm": 10**6}, {"theta_ppm": -1}])
def test_reward_rules_are_checked(wrong):
    with pytest.raises(ConfigError):
        RewardRule(**wrong)


# ---------------------------------------------------------------- what honest servers predict


@given(
    likeness=st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=5),
    kind=st.sampled_from(["dirichlet", "most_on_choice"]),
)
def test_predictions_are_valid_and_highest_on_the_choice(likeness, kind):
    told = dict(zip(NODES, likeness, strict=False))
    best = max(told, key=lambda n: told[n])
    found = predict(NODES, told, best, PredictionRule(kind))
    assert sum(found) == 1_000_000 and min(found) >= 1000
    assert found[NODES.index(best)] == max(found)


def test_dirichlet_by_hand():
    """Two equal candidates: a = (1, 1), κ = 2 on the first: (3, 1)/4, floored at 1000 ppm each."""
    found = predict(NODES[:2], {NODES[0]: 5, NODES[1]: 5}, NODES[0], PredictionRule("dirichlet"))
    assert found == (1000 + 748_500, 1000 + 249_500)


def test_the_floor_must_leave_room():
    with pytest.raises(ConfigError, match="lower floor_ppm to 200000"):
        floored([1] * 5, 300_000)
