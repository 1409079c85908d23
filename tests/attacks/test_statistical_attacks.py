"""LIE, Min-Max, Min-Sum, Mimic, plagiarism, free-riding: attacks built from the others' rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.free_riding import FreeRiding
from attacks.lie import Lie, _largest_z
from attacks.mimic import Mimic
from attacks.min_max import MinMax
from attacks.min_sum import MinSum
from attacks.plagiarism import Plagiarism
from fedalign.core.contracts import Aggregate
from fedalign.core.errors import ConfigError
from tests.attacks.views import ORACLE_ROWS, crowd, rows, view

ORACLE = view(ORACLE_ROWS[6:], ORACLE_ROWS[:6])


# ------------------------------------------------------------------ LIE


def test_lie_oracle():
    expected = [-1.019086, -0.959362, -1.112502, -1.293617]
    assert Lie(z=1.5)(ORACLE).rows[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_lie_z_values():
    assert _largest_z(50, 24) == pytest.approx(1.4261, abs=1e-4)
    assert _largest_z(20, 4) == pytest.approx(0.1573, abs=1e-4)


def test_lie_z_stays_finite_and_never_negative():
    """s <= 0: the argument is clamped to 1 - 1e-6; an argument of at most 1/2 gives 0."""
    assert _largest_z(10, 6) == pytest.approx(4.7534, abs=1e-4)
    assert _largest_z(20, 0) == 0.0
    assert _largest_z(3, 1) == 0.0


def test_lie_signs_and_a_single_benign_row():
    above = Lie(z=1.0, sign=1)(ORACLE).rows[0]
    below = Lie(z=1.0)(ORACLE).rows[0]
    torch.testing.assert_close((above + below) / 2, ORACLE_ROWS[:6].mean(dim=0))
    assert Lie(z=3.0)(view([[0.0]], [[2.0]])).rows.item() == 2
    with pytest.raises(ConfigError, match=r"Lie.sign is 0; use one of: -1, 1"):
        Lie(sign=0)


# ------------------------------------------------------------------ Min-Max, Min-Sum


def test_min_max_and_min_sum_oracles():
    assert MinMax()(ORACLE).notes["gamma"] == pytest.approx(1.962287, abs=1e-6)
    assert MinSum()(ORACLE).notes["gamma"] == pytest.approx(1.830636, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.sampled_from(["unit", "std", "sign"]))
def test_both_are_tight(seed, count, deviation):
    """max_i |x' - x_i| = D and sum_i |x' - x_i|^2 = max_i sum_j |x_i - x_j|^2."""
    generator = torch.Generator().manual_seed(seed)
    benign = torch.randn(count, 6, generator=generator, dtype=torch.float64) + 0.5
    given_view = view(benign[:1] * 0, benign)
    among = torch.cdist(benign, benign)
    far = (benign - MinMax(deviation)(given_view).rows).norm(dim=1)
    assert float(far.max()) == pytest.approx(float(among.max()), rel=1e-9)
    total = (benign - MinSum(deviation)(given_view).rows).square().sum()
    widest = among.square().sum(dim=1).max()
    assert float(total) == pytest.approx(float(widest), rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["unit", "std", "sign"]))
def test_closed_forms_agree_with_the_published_search(seed, deviation):
    generator = torch.Generator().manual_seed(seed)
    benign = torch.randn(7, 6, generator=generator, dtype=torch.float64) + 0.5
    given_view = view(benign[:1] * 0, benign)
    for attack in (MinMax, MinSum):
        closed = attack(deviation)(given_view).notes["gamma"]
        searched = attack(deviation, search="published")(given_view).notes["gamma"]
        assert searched == pytest.approx(closed, abs=2e-5)


def test_float32_rows_stay_within_the_budget_of_the_benign():
    given_view = crowd()
    rows_sent = MinMax()(given_view).rows
    far = (given_view.benign - rows_sent[0]).double().norm(dim=1).max()
    widest = torch.cdist(given_view.benign.double(), given_view.benign.double()).max()
    assert float(far) == pytest.approx(float(widest), rel=1e-4)


@pytest.mark.parametrize("attack", [MinMax(), MinSum(), MinMax("std"), MinSum("sign")])
def test_equal_or_zero_benign_rows_leave_no_room(attack):
    equal = attack(view([[0.0, 0.0]], [[1.0, 2.0]] * 3)).rows
    assert equal[0].tolist() == pytest.approx([1.0, 2.0], abs=1e-5)
    assert not attack(view([[1.0, 1.0]], torch.zeros(3, 2))).rows.any()
    assert attack(view([[1.0, 1.0]], [[1.0, 2.0]])).rows.tolist() == [[1.0, 2.0]]


def test_min_max_refusals():
    with pytest.raises(ConfigError, match=r"MinMax.deviation is 'up'; use one of: unit, std, sign"):
        MinMax("up")
    with pytest.raises(ConfigError, match=r"MinSum.search"):
        MinSum(search="binary")


# ------------------------------------------------------------------ copies


def test_mimic_starts_with_the_first_row_and_learns_the_main_direction():
    """Benign rows vary along the first axis: from round 2 on the outermost one there is copied."""
    benign = rows([[-3.0, 0.1], [4.0, 0.0], [-1.0, -0.1]])
    first = Mimic()(view(torch.zeros(2, 2), benign))
    assert first.rows.tolist() == benign[:1].tolist() * 2
    second = Mimic()(view(torch.zeros(2, 2), benign, memory=first.memory))
    assert second.notes["copied"] == 1 and second.rows.tolist() == [[4.0, 0.0]] * 2
    assert abs(float(second.memory["direction"][0])) > 0.99
    assert float(second.memory["direction"].norm()) == pytest.approx(1)
    assert second.memory["mean"].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_mimic_survives_equal_rows():
    memory = {}
    for _ in range(3):
        crafted = Mimic()(view([[9.0]], [[2.0]] * 3, memory=memory))
        memory = crafted.memory
        assert crafted.rows.item() == 2


def test_plagiarism_copies_exactly_or_nearly():
    given_view = crowd()
    assert torch.equal(Plagiarism(victim=3)(given_view).rows, given_view.benign[3].repeat(4, 1))
    near = Plagiarism(victim=3, noise=1e-3)(given_view).rows - given_view.benign[3]
    length = float(given_view.benign[3].norm())
    assert near.norm(dim=1).numpy() / length == pytest.approx(1e-3, rel=1e-2)
    drawn = Plagiarism()(given_view)
    assert torch.equal(drawn.rows[0], given_view.benign[drawn.notes["copied"]])
    with pytest.raises(ConfigError, match=r"victim is 99, but 16 benign rows arrived"):
        Plagiarism(victim=99)(given_view)


# ------------------------------------------------------------------ free-riding


def test_plain_free_riding_shortens_the_average():
    """FedAvg's update is (n - m) / n of the honest one: 3 of 4 rows of (4, 8) give (3, 6)."""
    benign = rows([[4.0, 8.0]] * 3)
    sent = FreeRiding()(view([[4.0, 8.0]], benign)).rows
    everybody = torch.cat([sent, benign])
    whole = Aggregate.mean(everybody, torch.ones(4, dtype=torch.bool))
    assert whole.vector.tolist() == [3.0, 6.0]


def test_delta_repeats_the_last_change_and_waits_for_one():
    model, past = rows([3.0, 5.0]), rows([1.0, 1.0])
    attack = FreeRiding("delta")
    assert attack(view([[0.0, 0.0]] * 2, model=model, past=past)).rows.tolist() == [[2, 4]] * 2
    assert not attack(view([[1.0, 1.0]], model=model, round=1)).rows.any()


def test_disguise_decays_with_the_rounds():
    """sigma_t = sigma_0 / t: after round 1 the noise has sigma_0, after round 4 a quarter."""
    model = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    given_view = view(torch.zeros(2, 5000), model=model, past=torch.zeros(5000), round=2)
    first = FreeRiding("disguised")(given_view)
    assert first.memory["sigma"] == pytest.approx(float(model.std()), rel=1e-3)
    assert float(first.rows.std()) == pytest.approx(float(model.std()), rel=0.05)
    later = replace(given_view, round=5, memory=first.memory, rng=np.random.default_rng(7))
    fifth = FreeRiding("disguised")(later)
    torch.testing.assert_close(fifth.rows, first.rows / 4)
    assert not torch.equal(first.rows[0], first.rows[1])


def test_a_late_free_rider_matches_the_latest_change():
    model = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    late = view(torch.zeros(1, 5000), model=model, past=torch.zeros(5000), round=11)
    sent = FreeRiding("disguised")(late)
    assert float(sent.rows.std()) == pytest.approx(float(model.std()), rel=0.05)
    assert sent.memory["sigma"] == pytest.approx(10 * float(model.std()), rel=1e-3)
