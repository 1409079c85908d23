"""Preference losses: numbers worked out in float64, identities, finite differences."""

from math import log

import pytest
import torch

from fedalign.core.errors import ConfigError
from fedalign.objectives.beta_dpo import BetaDpo
from fedalign.objectives.cdpo import Cdpo
from fedalign.objectives.dpo import Dpo
from fedalign.objectives.dr_dpo import DrDpo, soft_minimum
from fedalign.objectives.hinge import Hinge
from fedalign.objectives.ipo import Ipo
from fedalign.objectives.kto import Kto
from fedalign.objectives.rdpo import Rdpo
from fedalign.objectives.rpo import Rpo
from fedalign.objectives.sft import Sft
from fedalign.objectives.spin import Spin
from fedalign.objectives.terms import PairTerms


def wide(values):
    return torch.as_tensor(values, dtype=torch.float64)


def four(dtype=torch.float64, **more):
    """Delta = [1.5, -1.5, 2, 3]."""
    values = {
        "chosen": [-10, -12, -8, -20],
        "rejected": [-11, -10, -15, -20],
        "chosen_reference": [-11, -11.5, -9, -21],
        "rejected_reference": [-10.5, -11, -14, -18],
        "chosen_tokens": [5, 6, 4, 10],
        "rejected_tokens": [5, 4, 7, 9],
        "chosen_scores": [4, 3, 2, 1],
        "rejected_scores": [1, 3, 0, 2],
        "mismatched": [0.4, -0.2, 0.6, 0.0, 0.1, 0.2, 0.3, -0.1],
    }
    return PairTerms(**{k: torch.tensor(v, dtype=dtype) for k, v in values.items()}, **more)


def gaps(values):
    gap = wide(values)
    return PairTerms(gap, gap * 0, gap * 0, gap * 0)


ALL = [
    Sft(), Dpo(), Dpo(0.5), Cdpo(), Rdpo(), Ipo(), Ipo(normalise="sum"), Hinge(), Rpo(),
    Rpo(form="sq"), Rpo(form="fwd", scale=0.5), Rpo(sft=0.1), BetaDpo(), BetaDpo(select="topk"),
    DrDpo(), DrDpo(robustness=1e6), Kto(), Spin(),
]  # fmt: skip


@pytest.mark.parametrize(
    ("objective", "value"),
    [
        (Dpo(0.1), 0.636102052),
        (Dpo(0.2), 0.589803423),
        (Cdpo(0.1, 0.1), 0.648602052),
        (Rdpo(0.1, 0.1), 0.620477052),
        (Ipo(0.1, "sum"), 16.875),
        (Ipo(0.1), 23.410453672),
        (Hinge(0.1), 0.875),
        (Rpo(0.1, "bwd"), 0.222032783),
        (Rpo(0.1, "fwd"), 0.323382379),
        (Rpo(0.1, "sq"), 3.26875),
        (Rpo(0.1, "bwd", 0.5), 0.081012237),
        (Rpo(0.1, "fwd", 0.5), 0.090565480),
        (Rpo(0.1, "sq", 0.5), 0.78125),
        (DrDpo(0.1, 1.0), 0.632863081),
        (DrDpo(0.1, 0.5), 0.629785211),
        (DrDpo(0.1, 5.0), 0.635441670),
        (DrDpo(0.1, 1e6), 0.636102049),
        (Spin(0.1), 0.636102052),
        (Sft(), 50 / 25),
    ],
)
def test_values_on_four_pairs(objective, value):
    assert float(objective(four()).value) == pytest.approx(value, abs=2e-9)
    assert float(objective(four(torch.float32)).value) == pytest.approx(value, rel=3e-6)


def test_dpo_per_pair_its_gradient_and_its_accuracy():
    terms = four()
    terms.chosen.requires_grad_(), terms.rejected.requires_grad_()
    loss = Dpo(0.1)(terms)
    assert loss.items.tolist() == pytest.approx(
        [0.620957048, 0.770957048, 0.598138869, 0.554355244], abs=1e-9
    )
    loss.value.backward()
    expected = [-0.011564254, -0.013435746, -0.011254150, -0.010638937]
    assert terms.chosen.grad.tolist() == pytest.approx(expected, abs=1e-9)
    assert terms.rejected.grad.tolist() == pytest.approx([-g for g in expected], abs=1e-9)
    assert loss.metrics["reward_accuracy"] == 0.75
    assert Dpo()(gaps([0.0, 1.0])).metrics["reward_accuracy"] == 0.75  # a tie counts one half


@pytest.mark.parametrize("objective", [o for o in ALL if not isinstance(o, BetaDpo)], ids=repr)
def test_finite_differences(objective):
    """Central differences of the value by every log-probability, in float64."""
    terms = four()
    leaves = [terms.chosen, terms.rejected]
    for leaf in leaves:
        leaf.requires_grad_()
    objective(terms).value.backward()
    for leaf in leaves:
        gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        for i in range(4):
            with torch.no_grad():
                leaf[i] += 1e-5
                above = float(objective(terms).value)
                leaf[i] -= 2e-5
                below = float(objective(terms).value)
                leaf[i] += 1e-5
            assert float(gradient[i]) == pytest.approx((above - below) / 2e-5, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("objective", ALL, ids=repr)
def test_extreme_gaps_stay_finite(objective):
    """Delta = +-1e4 in float32."""
    for gap in (1e4, -1e4):
        leaf = torch.full((2,), gap, requires_grad=True)
        zeros, ones = torch.zeros(2), torch.ones(2)
        terms = PairTerms(leaf, zeros, zeros, zeros, ones, ones, ones, zeros, torch.zeros(4))
        loss = objective(terms)
        loss.value.backward()
        assert torch.isfinite(loss.value) and torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("objective", [o for o in ALL if o.neutral is not None], ids=repr)
def test_the_value_where_policy_and_reference_agree(objective):
    same = wide([-3.0, -5.0, -2.0])
    terms = PairTerms(same, same - 1, same, same - 1, wide([2, 3, 2]), wide([2, 3, 1]))
    assert float(objective(terms).value) == pytest.approx(objective.neutral, abs=1e-12)


def test_neutral_values():
    assert Dpo().neutral == DrDpo().neutral == Rdpo().neutral == log(2)
    assert Ipo(0.1).neutral == 1 / (4 * 0.1**2) and Hinge().neutral == 1.0


def test_rpo_vanishes_exactly_where_margins_agree_and_differs_from_soft_labels_by_an_entropy():
    terms, g = four(), wide([3.0, 0.0, 2.0, -1.0])
    at = PairTerms(g / 0.1, g * 0, g * 0, g * 0, None, None, g, g * 0)
    for form in ("bwd", "fwd", "sq"):
        assert Rpo(0.1, form)(at).items.abs().max() < 1e-12
        assert Rpo(0.1, form)(terms).items.min() > 0
    x, logsigmoid = 0.1 * terms.gap, torch.nn.functional.logsigmoid
    soft = -g.sigmoid() * logsigmoid(x) - (-g).sigmoid() * logsigmoid(-x)
    entropy = -g.sigmoid() * logsigmoid(g) - (-g).sigmoid() * logsigmoid(-g)
    assert torch.allclose(soft - Rpo(0.1)(terms).items, entropy, atol=1e-12)


def test_rdpo_is_unbiased_under_its_flip_rate():
    """(1 - e) L(h) + e L(-h) is the clean loss."""
    h = wide([-7.0, -0.3, 0.0, 2.0, 11.0])
    for e in (0.1, 0.4):
        mixed = (1 - e) * Rdpo(0.5, e)(gaps(h)).items + e * Rdpo(0.5, e)(gaps(-h)).items
        assert torch.allclose(mixed, Dpo(0.5)(gaps(h)).items, atol=1e-12)


def test_a_fully_flipped_batch_is_the_negative_gradient_at_the_reference():
    leaf = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros(5, dtype=torch.float64)
    clean = torch.autograd.grad(Dpo()(PairTerms(leaf, zeros, zeros, zeros)).value, leaf)[0]
    flipped = torch.autograd.grad(Dpo()(PairTerms(zeros, leaf, zeros, zeros)).value, leaf)[0]
    assert torch.equal(flipped, -clean)


# ------------------------------------------------------------------ Dr. DPO


@pytest.mark.parametrize(
    ("temperature", "value"), [(0.2, 0.224906998), (1.0, 0.525738921), (5.0, 0.932050018)]
)
def test_the_soft_minimum_by_hand(temperature, value):
    assert float(soft_minimum(wide([0.1, 0.2, 3.0]), temperature)) == pytest.approx(value, abs=1e-9)


def test_dr_dpo_weighs_large_losses_less():
    items = wide([0.1, 0.2, 3.0]).requires_grad_()
    weights = torch.autograd.grad(soft_minimum(items, 1.0), items)[0]
    assert weights.tolist() == pytest.approx([0.510240361, 0.461684571, 0.028075068], abs=1e-9)
    assert float(soft_minimum(items.detach(), 1e-4)) == pytest.approx(0.1, abs=1e-3)
    narrow = items.detach().float()
    assert float(soft_minimum(narrow, 1e6)) == pytest.approx(float(narrow.mean()), rel=1e-6)


# ------------------------------------------------------------------ beta-DPO


def test_beta_dpo_over_two_batches():
    objective = BetaDpo(0.1, select="topk")
    first = objective(gaps([1.5, -1.5, 2.0, 3.0]))
    assert first.memory["mean"] == pytest.approx(1.25)
    assert first.memory["deviation"] == pytest.approx(1.936491673, abs=1e-9)
    assert first.metrics["beta"] == pytest.approx(0.155, abs=1e-12)
    assert float(first.value) == pytest.approx(0.540395395, abs=1e-9)
    second = objective(gaps([2.0, 2.5, -4.0, 1.0]), first.memory)
    assert second.memory["mean"] == pytest.approx(1.1625)
    assert second.memory["deviation"] == pytest.approx(2.041101342, abs=1e-9)
    assert second.metrics["beta"] == pytest.approx(0.14025, abs=1e-12)
    assert float(second.value) == pytest.approx(0.573767634, abs=1e-9)


def test_beta_dpo_descends_as_dpo_of_its_beta_on_the_pairs_it_keeps():
    """Beta is a constant of the batch: no gradient flows through it."""
    leaf = wide([1.5, -1.5, 2.0, 3.0]).requires_grad_()
    zeros = leaf.detach() * 0
    loss = BetaDpo(0.1, select="topk")(PairTerms(leaf, zeros, zeros, zeros))
    found = torch.autograd.grad(loss.value, leaf)[0]
    fixed = Dpo(loss.metrics["beta"])(PairTerms(leaf, zeros, zeros, zeros)).items
    kept = torch.tensor([0, 2, 3])
    assert torch.allclose(found, torch.autograd.grad(fixed[kept].mean(), leaf)[0], atol=1e-12)
    assert found[1] == 0


def test_beta_dpo_without_filter_follows_its_running_mean():
    loss = BetaDpo(0.1, keep=1.0, initial="zeros")(gaps([1.5, -1.5, 2.0, 3.0]))
    assert loss.memory["mean"] == pytest.approx(0.125)
    assert loss.metrics["beta"] == pytest.approx(0.1675, abs=1e-12)
    assert float(loss.value) == pytest.approx(0.603694682, abs=1e-9)


def test_beta_dpo_starts_without_dividing_by_zero_and_draws_anew_each_batch():
    objective = BetaDpo(0.1)
    fresh = objective(gaps([0.0] * 10))
    assert float(fresh.value) == pytest.approx(log(2)) and fresh.memory["seed"] == 1
    uneven = gaps([float(i) for i in range(10)])
    values = {round(float(objective(uneven, {"seed": s}).value), 9) for s in range(8)}
    assert len(values) > 1
    again = objective(uneven, {"seed": 3}).value
    assert torch.equal(again, objective(uneven, {"seed": 3}).value)


# ------------------------------------------------------------------ KTO


def test_kto_by_hand():
    ratios, good = wide([1.0, -0.5, 0.3, 2.0]), torch.tensor([True, False, True, False])
    elsewhere = wide([0.4, -0.2, 0.6, 0.0])
    loss = Kto(0.2).unpaired(ratios, good, elsewhere)
    assert loss.items.tolist() == pytest.approx(
        [0.460085115, 0.465057055, 0.495000167, 0.589040434], abs=1e-9
    )
    assert float(loss.value) == pytest.approx(0.502295693, abs=1e-9)
    heavier = Kto(0.2, undesirable=1.5).unpaired(ratios, good, elsewhere)
    assert float(heavier.value) == pytest.approx(0.634057879, abs=1e-9)


def test_kto_without_one_of_the_classes_is_a_number():
    ratios = wide([1.0, -0.5])
    for good in (torch.ones(2).bool(), torch.zeros(2).bool()):
        assert torch.isfinite(Kto().unpaired(ratios, good, ratios).value)
    with pytest.raises(ConfigError, match="at least 2 answers, got 1"):
        Kto().unpaired(ratios[:1], torch.ones(1).bool(), ratios[:1])


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Dpo(0.0), "Dpo.beta must be above 0, got 0"),
        (lambda: Rdpo(error=0.5), r"Rdpo.error must lie in \[0, 0.5\), got 0.5"),
        (lambda: Ipo(normalise="pair"), "token or sum"),
        (lambda: Rpo(form="cube"), "sq, bwd or fwd"),
        (lambda: BetaDpo(keep=1.5), "BetaDpo.keep must lie in"),
        (lambda: Rpo()(gaps([1.0])), "needs a score of both answers"),
        (lambda: Kto()(gaps([1.0])), "mismatched"),
        (lambda: Sft()(gaps([1.0])), "number of tokens"),
    ],
)
def test_refusals(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()
