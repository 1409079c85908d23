"""HieAvg on members whose submissions can be worked out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses.fedavg import FedAvg
from defenses.hieavg import HieAvg
from fedalign.core import memory as disk
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError
from tests.defenses.members import THREE, play

PLAIN = dict(gamma_floor=0.0)  # weights 0.9^m without a floor
UNDAMPED = HieAvg(damp=1.0, **PLAIN)
D_FEDAVG = HieAvg(mode="none", delta="zero")
MIFA = HieAvg(mode="none", delta="drift")

WORKED = {  # (mode, damp) -> models of rounds 3 and 4
    ("literal", 1.0): ((1.9, 2.5), (2.7466666667, 3.5566666667)),
    ("renorm", 1.0): ((1.9655172414, 2.5862068966), (2.9323843416, 3.7971530249)),
    ("none", 1.0): ((2.0, 2.6666666667), (3.0, 4.0)),
    ("renorm", 0.5): ((1.8103448276, 2.2758620690), (2.5720640569, 3.0765124555)),
}


@pytest.mark.parametrize("moved", [False, True], ids=["from zero", "from a moving model"])
@pytest.mark.parametrize(("mode", "damp"), WORKED)
def test_three_members_of_whom_one_misses_two_rounds(mode, damp, moved):
    """Member 2 sent (1,1), (2,3): Delta = (1,2), so it counts as (3,5) and (4,7) undamped, with
    a(1) = .5, a(2) = .75 damped by a half; its weight is .9 and .81 of a third. Where the members
    started from does not matter: estimates are models."""
    rule = HieAvg(mode=mode, damp=damp, allow_unstable=mode == "none", **PLAIN)
    base = (lambda r: torch.tensor([7.0 * r, -r], dtype=torch.float64)) if moved else None
    models = {r: model.tolist() for r, (model, _) in play(rule, THREE, base).items()}
    assert models[1] == pytest.approx((2 / 3, 2 / 3), abs=1e-9)
    assert models[2] == pytest.approx((4 / 3, 5 / 3), abs=1e-9)
    for r, expected in zip((3, 4), WORKED[mode, damp], strict=True):
        assert models[r] == pytest.approx(expected, abs=1e-9)
    assert models[5] == pytest.approx((3, 4), abs=1e-9)


def test_weights_misses_and_confidences_are_reported():
    found = play(UNDAMPED, THREE)
    notes = {r: decided.notes for r, (_, decided) in found.items()}
    share = notes[3]["estimated"][2]
    assert (share["misses"], share["confidence"]) == (1, 0.9)
    assert share["weight"] == pytest.approx(0.3103448276, abs=1e-9)
    assert notes[3]["weights"] == pytest.approx({0: 0.3448275862, 1: 0.3448275862}, abs=1e-9)
    assert notes[4]["estimated"][2]["misses"] == 2
    assert notes[4]["estimated"][2]["weight"] == pytest.approx(0.2882562278, abs=1e-9)
    assert notes[5]["estimated"] == {} and notes[5]["status"] == "ok"


def test_the_mean_difference_telescopes():
    """Delta from first and last alone equals the mean of all consecutive differences."""
    rng = np.random.default_rng(0)
    sent = rng.standard_normal((6, 4))
    explicit = np.diff(sent, axis=0).mean(axis=0)
    rounds = {r + 1: {0: sent[r]} for r in range(6)} | {7: {}}
    rule = HieAvg(damp=1.0, min_arrivals=0, **PLAIN)
    assert play(rule, rounds)[7][0].numpy() == pytest.approx(sent[-1] + explicit, abs=1e-12)


def test_elapsed_rounds_or_submissions_divide_the_slope():
    """Submissions 0, 4 in rounds 1 and 5, missing in 2-4 and 6: per round 1, per submission 4."""
    rounds = {r: {1: (9.0,)} | ({0: (float(r - 1),)} if r in (1, 5) else {}) for r in range(1, 7)}
    for denominator, value in (("elapsed", 5.0), ("submissions", 8.0)):
        rule = HieAvg(damp=1.0, slope_denominator=denominator, **PLAIN)
        model = play(rule, rounds)[6][0].item()
        assert model == pytest.approx((9.0 + 0.9 * value) / 1.9, abs=1e-12)


def test_a_window_looks_at_the_last_differences_only():
    """0, 1, 2, 10, 20: the last difference is 10, the mean of the last two 9, of all five 5."""
    sent = {r: {0: (v,)} for r, v in enumerate((0.0, 1.0, 2.0, 10.0, 20.0), 1)} | {6: {}}
    for rule, value in (
        (HieAvg(damp=1.0, delta="window", window=1, min_arrivals=0, **PLAIN), 30.0),
        (HieAvg(damp=1.0, delta="window", window=2, min_arrivals=0, **PLAIN), 29.0),
        (HieAvg(damp=1.0, min_arrivals=0, **PLAIN), 25.0),
    ):
        assert play(rule, sent)[6][0].item() == pytest.approx(value)


def test_drift_adds_the_last_known_update_to_what_the_others_received():
    """Member 1 last moved its start of 10 to 13: in round 3, started from 20, it counts as 23."""
    base = lambda r: torch.tensor([10.0 * (r - 1)], dtype=torch.float64)  # noqa: E731
    rounds = {1: {0: (1.0,), 1: (2.0,)}, 2: {0: (11.0,), 1: (13.0,)}, 3: {0: (21.0,)}}
    assert play(MIFA, rounds, base)[3][0].item() == pytest.approx((21 + 23) / 2)
    assert play(D_FEDAVG, rounds, base)[3][0].item() == pytest.approx((21 + 13) / 2)


def test_on_a_straight_line_the_undamped_estimate_is_the_truth():
    line = {r: {u: ((u + 1.0) * r, 2.0 - r) for u in range(3)} for r in range(1, 8)}
    cut = {r: {u: x for u, x in sent.items() if u != 2 or r < 4} for r, sent in line.items()}
    rule = HieAvg(mode="none", damp=1.0, allow_unstable=True)
    for (whole, _), (guessed, _) in zip(
        play(rule, line).values(), play(rule, cut).values(), strict=True
    ):
        assert torch.allclose(whole, guessed, atol=1e-12)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 12))
def test_with_nobody_missing_it_is_fedavg_bit_for_bit(seed, n):
    rng = np.random.default_rng(seed)
    rows = torch.from_numpy(rng.standard_normal((n, 33)).astype("float32"))
    weights = torch.from_numpy(rng.uniform(1, 50, n))
    context = Context(weights=weights, model=torch.ones(33))
    for mode in ("renorm", "literal", "none"):
        ours = HieAvg(mode=mode)(rows, context).vector
        assert torch.equal(ours, FedAvg("samples")(rows, context).vector)


@given(seed=st.integers(0, 10_000))
def test_no_confidence_leaves_fedavg_over_arrivals(seed):
    rng = np.random.default_rng(seed)
    sent = {r: {u: rng.standard_normal(3) for u in range(5)} for r in (1, 2)}
    sent[3] = {u: rng.standard_normal(3) for u in (0, 1, 3)}
    model = play(HieAvg(lam=0.0, gamma_floor=0.0), sent)[3][0]
    assert torch.allclose(model, torch.tensor(np.mean(list(sent[3].values()), axis=0)), atol=1e-12)


@given(seed=st.integers(0, 10_000), mode=st.sampled_from(["renorm", "none", "literal"]))
def test_translation_moves_renorm_and_none_along_and_shrinks_literal(seed, mode):
    rng = np.random.default_rng(seed)
    sent = {r: {u: rng.standard_normal(3) for u in range(4)} for r in (1, 2)}
    sent[3] = {u: rng.standard_normal(3) for u in (0, 2)}
    moved = {r: {u: x + 5.0 for u, x in s.items()} for r, s in sent.items()}
    rule = HieAvg(mode=mode)
    here, there = play(rule, sent)[3][0], play(rule, moved)[3][0]
    assert torch.allclose(here + 5.0, there, atol=1e-9) == (mode != "literal")


@given(seed=st.integers(0, 10_000))
def test_the_order_of_members_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    sent = {r: {u: rng.standard_normal(3) for u in range(6)} for r in (1, 2)}
    sent[3] = {u: rng.standard_normal(3) for u in (5, 0, 2)}
    turned = {r: dict(reversed(list(s.items()))) for r, s in sent.items()}
    weights = {u: 1.0 + u for u in range(6)}
    one = play(HieAvg(), sent, weights=weights)[3][0]
    other = play(HieAvg(), turned, weights=weights)[3][0]
    assert torch.allclose(one, other, atol=1e-12)


def test_no_damping_factor_at_all_is_d_fedavg():
    found = play(HieAvg(mode="none", damp=0.0), THREE)
    same = play(D_FEDAVG, THREE)
    assert all(torch.equal(found[r][0], same[r][0]) for r in THREE)


def test_members_without_history_are_left_out_even_of_the_literal_mean():
    """Member 2 never sent anything: the weights of the others are divided by theirs alone."""
    rounds = {1: {0: (2.0,), 1: (4.0,)}, 2: {0: (6.0,), 2: (9.0,)}}
    for mode in ("literal", "renorm", "none"):
        found = play(HieAvg(mode=mode), rounds)
        assert found[1][0].item() == pytest.approx(3.0)
        assert found[1][1].notes["excluded"] == [2] and found[1][1].notes["weights"][0] == 0.5


def test_one_submission_gives_no_slope():
    """Member 1 sent 4 once: it counts as 4, with confidence .9, whatever the damping."""
    rounds = {1: {0: (2.0,), 1: (4.0,)}, 2: {0: (6.0,)}}
    model = play(UNDAMPED, rounds)[2][0].item()
    assert model == pytest.approx((6 + 0.9 * 4) / 1.9)


def test_who_stays_away_too_long_is_permanent_and_may_be_dropped():
    rounds = (
        {1: {0: (0.0,), 1: (4.0,)}}
        | {r: {0: (0.0,)} for r in range(2, 6)}
        | {6: {0: (0.0,), 1: (2.0,)}}
    )
    kept = play(HieAvg(max_misses=2), rounds)
    dropped = play(HieAvg(max_misses=2, permanent_action="drop"), rounds)
    assert [kept[r][1].notes["permanent"] for r in (3, 4)] == [[], [1]]
    assert kept[5][0].item() > 0 and dropped[5][0].item() == 0
    assert dropped[5][1].notes["excluded"] == [1]
    assert dropped[6][0].item() == 1.0 and dropped[6][1].notes["permanent"] == []


def test_a_long_absence_may_restart_a_history():
    """Sent 0, 1, away 3 rounds, back with 100, away again: the old slope would run on."""
    rounds = {1: {0: (0.0,), 1: (0.0,)}, 2: {0: (1.0,), 1: (0.0,)}}
    rounds |= {r: {1: (0.0,)} for r in (3, 4, 5)} | {6: {0: (100.0,), 1: (0.0,)}, 7: {1: (0.0,)}}
    keeps = play(HieAvg(damp=1.0, **PLAIN), rounds)[7][0].item()
    fresh = play(HieAvg(damp=1.0, reset_after=2, **PLAIN), rounds)[7][0].item()
    assert keeps == pytest.approx(0.9 * 120 / 1.9)  # 100 + (100 - 0) / 5
    assert fresh == pytest.approx(0.9 * 100 / 1.9)


def test_late_rows_are_history_of_their_own_round_and_change_no_closed_one():
    """Member 1 sends 0, 1; its 2 of round 3 arrives in round 4, where it is missing again: it
    counts as 2 + 1 with one miss, not as 1 + 2 with two."""
    rounds = {1: {0: (0.0,), 1: (0.0,)}, 2: {0: (0.0,), 1: (1.0,)}, 3: {0: (0.0,)}, 4: {0: (0.0,)}}
    punctual = play(UNDAMPED, rounds)
    found = play(UNDAMPED, rounds, late={4: {1: (3, (2.0,))}})
    assert torch.equal(found[3][0], punctual[3][0])
    assert found[4][1].notes["estimated"][1]["misses"] == 1
    assert found[4][0].item() == pytest.approx(0.9 * 3 / 1.9)
    stale = play(UNDAMPED, rounds, late={4: {1: (1, (50.0,))}})
    assert torch.equal(stale[4][0], punctual[4][0]), "older than what is known already"


def test_an_incomplete_cold_boot_is_noted():
    rounds = {1: {0: (1.0,)}, 2: {0: (1.0,), 1: (1.0,)}, 3: {0: (1.0,)}}
    notes = [d.notes["cold_boot_incomplete"] for _, d in play(HieAvg(), rounds).values()]
    assert notes == [[1], [], []]


def test_nobody_there_keeps_the_model_but_counts_the_miss():
    rounds = {1: {0: (1.0,), 1: (3.0,)}, 2: {}, 3: {0: (1.0,)}}
    found = play(HieAvg(), rounds)
    assert found[2][1].skipped and found[2][1].notes["status"] == "too_few"
    assert found[3][1].notes["estimated"][1]["misses"] == 2
    alone = play(HieAvg(min_arrivals=0), {1: {}, 2: {0: (1.0,), 1: (3.0,)}})
    assert alone[1][1].skipped and alone[1][1].notes["status"] == "no_quorum"


def test_history_survives_being_written_and_read(tmp_path):
    """Stopped after round 3, taken up again: the same bits as without a stop."""
    rounds = {r: {u: [np.sin(r * u + k) for k in range(5)] for u in s} for r, s in THREE.items()}
    base = lambda r: torch.full((5,), 0.1 * r, dtype=torch.float32)  # noqa: E731
    whole = play(HieAvg(), rounds, base, dtype=torch.float32)
    first = play(HieAvg(), {r: rounds[r] for r in (1, 2, 3)}, base, dtype=torch.float32)
    disk.write(tmp_path / "memory", first[3][1].memory)
    memory = disk.read(tmp_path / "memory")
    rest = {r: rounds[r] for r in (4, 5)}
    again = play(
        HieAvg(), rest, base, memory=memory, dtype=torch.float32, weights={0: 1.0, 1: 1.0, 2: 1.0}
    )
    assert all(torch.equal(again[r][0], whole[r][0]) for r in rest)


def test_the_memory_that_came_in_stays_as_it_was():
    first = play(HieAvg(), {r: THREE[r] for r in (1, 2)})[2][1].memory
    context = Context(round=3, absent={1: 1.0, 2: 1.0}, memory=first)
    rows = torch.ones(1, 2, dtype=torch.float64)
    one, two = HieAvg()(rows, context), HieAvg()(rows, context)
    assert torch.equal(one.vector, two.vector) and one.notes == two.notes


def test_a_history_larger_than_its_share_of_memory_lives_in_a_file(monkeypatch):
    """With a limit of one byte every matrix is paged; the bits do not change."""
    paged, memmap = [], np.memmap

    def spy(file, **keys):
        paged.append(keys["shape"])
        return memmap(file, **keys)

    monkeypatch.setattr(np, "memmap", spy)
    base = lambda r: torch.full((2,), float(r))  # noqa: E731
    here = play(HieAvg(), THREE, base, dtype=torch.float32)
    assert not paged
    there = play(HieAvg(history_gib=1e-9), THREE, base, dtype=torch.float32)
    assert all(torch.equal(here[r][0], there[r][0]) for r in THREE)
    assert paged == [(3, 2), (3, 2), (3, 2), (2, 2), (2, 2), (3, 2)]  # five rounds, and the firsts


def test_a_missing_member_does_not_keep_the_matrix_of_its_last_round():
    first = torch.randn(4, 50)
    context = lambda r, ids, memory: Context(  # noqa: E731
        round=r, clients=torch.tensor(ids), model=torch.zeros(50), memory=memory,
        absent={u: 1.0 for u in range(4) if u not in ids},
    )  # fmt: skip
    memory = HieAvg()(first, context(1, [0, 1, 2, 3], {})).memory
    memory = HieAvg()(torch.randn(4, 50), context(2, [0, 1, 2, 3], memory)).memory
    for r in (3, 4, 5):
        memory = HieAvg()(torch.randn(3, 50), context(r, [0, 1, 2], memory)).memory
    last = memory["members"][3]["trail"][-1]["row"]
    assert last.untyped_storage().nbytes() == 50 * 4


REFUSED = [
    (dict(damp=1.0), "allow_unstable"),
    (dict(damp=1.0, mode="none", gamma_floor=0.0), "allow_unstable"),
    (dict(damp=1.5), r"damp must be in \[0, 1\], got 1.5"),
    (dict(lam=-0.1), r"lam must be in \[0, 1\]"),
    (dict(mode="mean"), "mode"),
    (dict(window=0), "window must be 1 or more, got 0"),
    (dict(cold_boot_rounds=1), "cold_boot_rounds must be 2 or more, got 1"),
    (dict(delta_clip=0.0), "delta_clip must be positive or null"),
    (dict(history_gib=0.0), "history_gib must be positive"),
]


@pytest.mark.parametrize(("keys", "says"), REFUSED)
def test_what_it_refuses(keys, says):
    with pytest.raises(ConfigError, match=says):
        HieAvg(**keys)


def test_undamped_slopes_are_allowed_where_they_cannot_diverge_or_on_demand():
    HieAvg(damp=1.0, gamma_floor=0.0)
    HieAvg(damp=1.0, delta="zero")
    HieAvg(damp=1.0, allow_unstable=True)
