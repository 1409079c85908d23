"""Scores: worked oracles by name, and what must hold for every vote."""

import math
from decimal import ROUND_UP, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.pofel.btsv import Btsv, score
from consensus.pofel.exact_logs import ln
from fedalign.core.errors import ConfigError

B1 = ((7, 1, 1, 1), (6, 2, 1, 1), (7, 1, 1, 1), (1, 7, 1, 1))  # tenths
VOTES = (0, 0, 0, 1)


def nats(values):
    return [x / 1e6 for x in values]


def near(values):
    return pytest.approx(list(values), abs=1.01e-6)


def test_O_B1_prelec():
    """x̄ = (.75, .25, 0, 0), ȳ = (.414082, .193434, .1, .1)."""
    found = score(VOTES, B1, Btsv("prelec"))
    assert nats(found.info) == near([0.594008, 0.594008, 0.594008, 0.256526])
    assert nats(found.pred) == near([-0.280817, -0.223144, -0.280817, -1.253772])
    assert nats(found.total) == near([0.313191, 0.370865, 0.313191, -0.997246])
    assert abs(sum(found.total)) <= 4 and found.shares_ppm == (750_000, 250_000, 0, 0)


def test_O_B1_half_alpha():
    found = score(VOTES, B1, Btsv("prelec", alpha_ppm=500_000))
    assert nats(found.total) == near([0.453599, 0.482436, 0.453599, -0.370360])
    assert sum(found.total) / 1e6 == pytest.approx(1.019275, abs=4e-6)


def test_O_B1_leave_one_out():
    found = score(VOTES, B1, Btsv("loo"))
    assert nats(found.info) == near([0.209397, 0.158014, 0.209397, 0.125626])
    assert nats(found.pred) == near([-0.191589, -0.059612, -0.191589, -0.870856])
    assert nats(found.total) == near([0.017808, 0.098402, 0.017808, -0.745230])


def test_O_B2_naive_bribe():
    """ȳ = (.394822, .075984, .033333, .033333); the bribed server gets .75 ln(1/3)."""
    found = score(VOTES, ((27, 1, 1, 1),) * 3 + ((1, 27, 1, 1),), Btsv("prelec"))
    assert nats(found.info) == near([0.641638] * 3 + [1.190944])
    assert nats(found.pred) == near([-0.366985] * 3 + [-2.014903])
    assert nats(found.total) == near([0.274653] * 3 + [0.75 * math.log(1 / 3)])


def test_O_B3_copycat():
    found = score(VOTES, ((27, 1, 1, 1),) * 4, Btsv("prelec"))
    assert nats(found.info) == near([-0.182322] * 3 + [2.014903])
    assert nats(found.total) == near([-0.549306] * 3 + [1.647918])


def test_O_B4_collapsed():
    found = score(VOTES, ((6, 4),) * 4, Btsv("collapsed"))
    assert nats(found.info) == near([0.223144] * 3 + [-0.470004])
    assert nats(found.pred) == near([-0.049857] * 4)
    assert nats(found.total) == near([0.173287] * 3 + [-0.519860])


def test_O_B4_the_rest_is_one_class_whoever_is_meant():
    """Three candidates, .4 spread over two of them: the same scores."""
    shares = ((6, 1, 3), (6, 2, 2), (6, 3, 1), (6, 3, 1))
    wide = score((0, 0, 0, 2), shares, Btsv("collapsed"))
    assert wide.total == score(VOTES, ((6, 4),) * 4, Btsv("collapsed")).total


@pytest.mark.parametrize(
    ("r", "coalition", "honest"),
    [(0.4, -1.109035, 0.277259), (0.6, -0.784663, 0.196166), (0.8, -0.554518, 0.138629)],
)
def test_O_B5_collapsed_coalitions(r, coalition, honest):
    """n = 10, b = 2, p = .6, collapsed; the coalition predicts r for the honest candidate."""
    shares = ((6, 4),) * 8 + ((round(10 * r), round(10 - 10 * r)),) * 2
    found = nats(score((0,) * 8 + (1,) * 2, shares, Btsv("collapsed")).total)
    assert found == near([honest] * 8 + [coalition] * 2)


def test_O_B5_the_limits():
    """r → 1 at alpha = 1; r* = 8/9 at alpha = 2."""
    votes = (0,) * 8 + (1,) * 2
    sure = ((6, 4),) * 8 + ((10**12 - 1, 1),) * 2
    found = nats(score(votes, sure, Btsv("collapsed")).total)
    assert found == pytest.approx([0.094001] * 8 + [-0.376003] * 2, abs=2e-6)
    best = ((6, 4),) * 8 + ((8, 1),) * 2
    found = nats(score(votes, best, Btsv("collapsed", alpha_ppm=2_000_000)).total)
    assert found == near([0.026041] * 8 + [-0.503498] * 2)


@pytest.mark.parametrize(("b", "calibrated"), [(1, 0.0), (2, 0.554518), (3, 0.769029)])
def test_O_B6_calibrated_coalitions(b, calibrated):
    """n = 10, p = .9: the coalition predicts the true shares."""
    shares = ((9, 1),) * (10 - b) + ((10 - b, b),) * b
    found = nats(score((0,) * (10 - b) + (1,) * b, shares, Btsv("collapsed")).total)
    assert found[-1] == pytest.approx(calibrated, abs=1.01e-6)


@pytest.mark.parametrize(("b", "optimal"), [(1, 0.094824), (2, 0.733033), (3, 1.018701)])
def test_O_B6_optimal_coalitions(b, optimal):
    shares = ((9, 1),) * (10 - b) + ((10**15 - 1, 1),) * b
    found = nats(score((0,) * (10 - b) + (1,) * b, shares, Btsv("collapsed")).total)
    assert found[-1] == pytest.approx(optimal, abs=1.01e-6)


TABLE = {  # n: (a reports a, a reports b, b reports b, b reports a)
    3: (-0.039958, 0.028869, 0.048837, -0.078471),
    4: (-0.041635, -0.063728, 0.050887, -0.146396),
    10: (-0.036551, -0.305753, 0.044674, -0.296799),
    50: (-0.028944, -0.444417, 0.035376, -0.368390),
}


def expected(n, signal, report):
    """Prior ½, P(a|A) = .8, P(a|B) = .3; the n - 1 others report their signals; predictions are
    the posterior means 73/110 = .663636 after a and 37/90 = .411111 after b."""
    likelihood = {"a": (0.8, 0.3), "b": (0.2, 0.7)}[signal]
    posterior = likelihood[0] / sum(likelihood)
    rows = {"a": (73, 37), "b": (37, 53)}
    total = 0.0
    for k in range(n):  # others who saw a
        chance = sum(
            weight * math.comb(n - 1, k) * p**k * (1 - p) ** (n - 1 - k)
            for weight, p in ((posterior, 0.8), (1 - posterior, 0.3))
        )
        votes = [int(report == "b")] + [0] * k + [1] * (n - 1 - k)
        shares = [rows[signal]] + [rows["a"]] * k + [rows["b"]] * (n - 1 - k)
        total += chance * score(votes, shares, Btsv("prelec")).total[0] / 1e6
    return total


@pytest.mark.parametrize("n", sorted(TABLE))
def test_O_B7_small_groups_by_exact_enumeration(n):
    cases = (("a", "a"), ("a", "b"), ("b", "b"), ("b", "a"))
    found = [expected(n, *case) for case in cases]
    assert found == near(TABLE[n])
    truthful = found[0] > found[1] and found[2] > found[3]
    assert truthful == (n != 3)


def test_O_B8_robust_truth_serum():
    """x = (1, 1, 1, 0), y = (.6, .7, .6, .3). Server 0: reference .7, shadow 1, peer says 1."""
    found = score(VOTES, ((6, 4), (7, 3), (6, 4), (3, 7)), Btsv("rbts"))
    assert nats(found.info) == [1, 0, 0.84, 0.36]
    assert nats(found.pred) == [0.84, 0.51, 0.84, 0.51]
    assert nats(found.total) == [1.84, 0.51, 1.68, 0.87]


def test_O_A_anchored():
    votes, shares = (0,) * 8 + (1,) * 2, ((9, 1),) * 8 + ((8, 2),) * 2
    found = score(votes, shares, Btsv("anchored", cap_ppm=1_000_000))
    assert nats(found.info) == near([math.log(0.8 / 0.6)] * 8 + [math.log(0.2 / 0.4)] * 2)
    assert nats(found.pred) == near([-0.044403] * 8 + [0.0] * 2)
    assert nats(found.total) == near([0.243279] * 8 + [-0.693147] * 2)


@pytest.mark.parametrize(
    ("cap", "pred", "total"), [(1_000_000, -0.051293, 0.459533), (900_000, -0.105361, 0.405465)]
)
def test_O_A_all_comply(cap, pred, total):
    found = score((0,) * 10, ((95, 5),) * 10, Btsv("anchored", cap_ppm=cap))
    assert nats(found.info) == near([math.log(1 / 0.6)] * 10)
    assert nats(found.pred) == near([pred] * 10) and nats(found.total) == near([total] * 10)


def test_the_cap_keeps_honest_servers_ahead():
    """β = .3, honest predict .999: uncapped -1.3080 against -0.2877, capped they lead."""
    votes, shares = (0,) * 7 + (1,) * 3, ((999, 1),) * 7 + ((7, 3),) * 3
    bare = nats(score(votes, shares, Btsv(cap_ppm=1_000_000)).total)
    assert bare[0] == pytest.approx(-1.3080, abs=5e-5) and bare[-1] == pytest.approx(
        -0.2877, abs=5e-5
    )
    capped = nats(score(votes, shares).total)
    assert capped[0] > capped[-1]


def test_audited_votes_are_their_own_evidence():
    """Candidate 0 is best: the vote for 1 costs s_max, the others are anchored scores."""
    shares = ((9, 1),) * 4
    found = score(VOTES, shares, Btsv("audited"), best={0})
    assert found.total[:3] == score(VOTES, shares, Btsv("anchored")).total[:3]
    assert found.total[3] == -3_000_000 and found.wrong == (3,)
    assert score(VOTES, shares, Btsv("audited"), best={0, 1}).wrong == ()
    with pytest.raises(ConfigError, match="best"):
        score(VOTES, shares, Btsv("audited"))


# ---------------------------------------------------------------- properties


@st.composite
def ballots(draw, most=9):
    n, m = draw(st.integers(1, most)), draw(st.integers(2, 5))
    votes = draw(st.lists(st.integers(0, m - 1), min_size=n, max_size=n))
    row = st.lists(st.integers(1, 1000), min_size=m, max_size=m)
    shares = draw(st.lists(row, min_size=n, max_size=n))
    return votes, shares


@given(ballots())
def test_predictions_never_earn_and_the_sum_is_zero(drawn):
    """pred ≤ 0 for every variant but rbts; Σ score = 0 for prelec and collapsed at alpha = 1."""
    votes, shares = drawn
    for variant in ("prelec", "loo", "collapsed", "anchored"):
        found = score(votes, shares, Btsv(variant))
        assert max(found.pred) <= 0
        if variant in ("prelec", "collapsed"):
            assert abs(sum(found.total)) <= len(votes)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_the_true_shares_are_a_perfect_prediction(votes):
    counts = [max(votes.count(c), 0) for c in range(4)]
    present = [c for c in range(4) if counts[c]]
    renamed = [present.index(v) for v in votes]
    shares = [[counts[c] for c in present]] * len(votes)
    found = score(renamed, shares, Btsv("prelec"))
    assert found.pred == (0,) * len(votes) and found.info == (0,) * len(votes)


@given(ballots(), st.randoms(use_true_random=False))
def test_names_of_candidates_do_not_matter(drawn, random):
    votes, shares = drawn
    m = len(shares[0])
    order = list(range(m))
    random.shuffle(order)
    moved = [[row[order.index(c)] for c in range(m)] for row in shares]
    for variant in ("prelec", "loo", "collapsed", "anchored", "rbts"):
        winner = score(votes, shares, Btsv(variant)).winner
        one = score(votes, shares, Btsv(variant), winner=winner)
        other = score([order[v] for v in votes], moved, Btsv(variant), winner=order[winner])
        assert other.total == one.total


@given(
    n=st.integers(2, 12), seed=st.integers(0, 10**6), p=st.integers(300_000, 666_000),
    cap=st.sampled_from([1_000_000, 900_000]),
)  # fmt: skip
def test_anchored_no_coalition_below_half_beats_compliance(n, seed, p, cap):
    """Theorem of 5.2 (iv): any weights, any coalition of share β < 1/2, any votes and predictions.
    Its per-capita score is at most ln(β/(1-p)), and compliance pays ln(1/p) - ln(1/cap)."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(1, 1000, n).tolist()
    coalition = [i for i in range(n) if rng.random() < 0.4]
    share = sum(weights[i] for i in coalition) / sum(weights)
    if not coalition or share >= 0.5:
        return
    m = int(rng.integers(2, 5))
    votes = [int(rng.integers(1, m)) if i in coalition else 0 for i in range(n)]
    shares = [rng.integers(1, 1000, m).tolist() for _ in range(n)]
    found = score(
        votes, shares, Btsv("anchored", prior_ppm=p, cap_ppm=cap), weights=weights, winner=0
    )
    most = math.log(share / (1 - p / 1e6))
    assert max(found.total[i] for i in coalition) / 1e6 <= most + 1e-6
    rule = Btsv("anchored", prior_ppm=p, cap_ppm=cap)
    sure = [[1_000_000] + [1] * (m - 1)] * n
    comply = score([0] * n, sure, rule, weights=weights, winner=0)
    assert comply.total[0] / 1e6 >= math.log(1e6 / p) - math.log(1e6 / cap) - 1e-5
    loss = math.log((1 - p / 1e6) / (p / 1e6 * share)) - math.log(1e6 / cap)
    assert comply.total[0] - max(found.total[i] for i in coalition) >= 1e6 * loss - 11


@given(ballots())
def test_scores_match_floats(drawn):
    """Prelec in numpy float64, tolerance 1e-6."""
    votes, shares = drawn
    p = np.array(shares, float) / np.sum(shares, axis=1, keepdims=True)
    x = np.bincount(votes, minlength=p.shape[1]) / len(votes)
    usual = np.log(p).mean(axis=0)
    here = x > 0
    info = np.log(x[votes]) - usual[votes]
    pred = (x[here] * (np.log(p[:, here]) - np.log(x[here]))).sum(axis=1)
    found = score(votes, shares, Btsv("prelec"))
    assert nats(found.total) == pytest.approx((info + pred).tolist(), abs=1.5e-6)


def test_the_callers_decimal_context_changes_nothing():
    plain = score(VOTES, B1, Btsv("loo"))
    ln.cache_clear()
    with localcontext() as context:
        context.prec, context.rounding = 5, ROUND_UP
        assert score(VOTES, B1, Btsv("loo")) == plain


def test_nobody_one_and_two_voters():
    assert score([], []).total == ()
    assert score([0], [(6, 4)], Btsv("loo")).total == (0,)
    assert score([0, 1], [(6, 4)] * 2, Btsv("rbts")).total == (0, 0)
    assert score([0], [(6, 4)], Btsv("prelec")).shares_ppm == (1_000_000, 0)


@pytest.mark.parametrize(
    ("votes", "shares"),
    [([0], []), ([2], [(1, 1)]), ([0, 0], [(1, 1), (1, 1, 1)]), ([0], [(0, 1)])],
)
def test_votes_that_make_no_sense_are_refused(votes, shares):
    with pytest.raises(ConfigError):
        score(votes, shares)


@pytest.mark.parametrize(
    "wrong",
    [
        {"variant": "bts"},
        {"alpha_ppm": -1},
        {"prior_ppm": 0},
        {"prior_ppm": 1_000_000},
        {"cap_ppm": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError):
        Btsv(**wrong)
