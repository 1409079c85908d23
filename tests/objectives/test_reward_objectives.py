"""Reward models, online objectives, distillation: numbers by hand and limits."""

from math import log

import pytest
import torch

from fedalign.core.errors import ConfigError
from fedalign.objectives.conqord import Conqord, brier, calibration_error
from fedalign.objectives.distillation import Distillation
from fedalign.objectives.policy_gradient import (
    generalised_advantages,
    group_advantages,
    kl,
    leave_one_out,
    whiten,
)
from fedalign.objectives.ppo import Ppo
from fedalign.objectives.rejection_sampling import RejectionSampling, best_of_kl
from fedalign.objectives.reward_bradley_terry import RewardBradleyTerry, extrapolate
from fedalign.objectives.reward_combined import RewardCombined
from fedalign.objectives.reward_regression import RewardRegression
from fedalign.objectives.reward_selector import RewardSelector
from fedalign.objectives.rloo import Rloo
from fedalign.objectives.steerlm import SteerLm
from fedalign.objectives.steerlm2 import SteerLm2


def wide(values):
    return torch.tensor(values, dtype=torch.float64)


def close(values, digits=2e-9):
    return pytest.approx(values, abs=digits)


BETTER, WORSE, STRENGTH = wide([1.2, 0.3, -0.5]), wide([0.2, 0.8, -0.4]), wide([3, 1, 2])


@pytest.mark.parametrize(
    ("form", "value"), [("plain", 0.677245111), ("margin", 2.014620271), ("scaled", 1.134218456)]
)
def test_bradley_terry_by_hand(form, value):
    assert float(RewardBradleyTerry(form)(BETTER, WORSE, STRENGTH).value) == close(value)


def test_bradley_terry_items_centering_and_limits():
    plain = RewardBradleyTerry()(BETTER, WORSE)
    assert plain.items.tolist() == close([0.313261688, 0.974076984, 0.744396660])
    centred = RewardBradleyTerry(centering=0.01)(BETTER, WORSE)
    assert float(centred.value - plain.value) == close(0.013266667)
    scaled = RewardBradleyTerry("scaled")(BETTER, WORSE, torch.ones(3))
    assert torch.equal(scaled.value, plain.value)
    assert plain.metrics["rm_accuracy_label"] == pytest.approx(1 / 3)
    with pytest.raises(ConfigError, match="strength of each pair"):
        RewardBradleyTerry("margin")(BETTER, WORSE)
    assert float(extrapolate(wide(1.0), wide(1.4), 1.5)) == close(1.6)


def test_a_selector_is_a_classifier_of_one_bit():
    """Binary cross-entropy of torch, with gradient; a tie is half right."""
    said = wide([1.2, -0.3, 0.0]).requires_grad_()
    first = torch.tensor([True, True, False])
    loss = RewardSelector()(said, first)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(said, first.to(said))
    assert torch.allclose(loss.value, theirs) and float(loss.items[2].detach()) == pytest.approx(
        log(2)
    )
    ours, other = (torch.autograd.grad(v, said)[0] for v in (loss.value, theirs))
    assert torch.allclose(ours, other) and loss.metrics["rm_accuracy_label"] == 0.5


def test_regression_leaves_unknown_labels_out():
    predictions = wide([[3.5, 3, 4, 2, 1], [1, 2, 3, 1, 0.5]]).requires_grad_()
    labels = wide([[4, 3, 4, 2, 2], [0, -100, 3, -100, 1]])
    loss = RewardRegression()(predictions, labels)
    assert float(loss.value.detach()) == close(0.3125)
    loss.value.backward()
    assert predictions.grad[1, 1] == predictions.grad[1, 3] == 0 and predictions.grad[1, 0] != 0


# ------------------------------------------------------------------ policy gradients


def test_leave_one_out_by_hand():
    rewards = wide([[1, 2, 4, 0]])
    baseline, advantages = leave_one_out(rewards)
    assert baseline[0].tolist() == close([2, 5 / 3, 1, 7 / 3])
    assert advantages[0].tolist() == close([-1, 1 / 3, 3, -7 / 3])
    valid = torch.tensor([[True, True, False, True]])
    baseline, advantages = leave_one_out(rewards, valid)
    assert baseline[0].tolist() == close([1, 0.5, 1.5, 1.5]) and advantages[0, 2] == 0
    alone = leave_one_out(rewards, torch.tensor([[True, False, False, False]]))[1]
    assert (alone == 0).all()
    with pytest.raises(ConfigError, match="at least 2 answers per prompt, got 1"):
        leave_one_out(wide([[1.0]]))


def test_group_advantages_by_hand():
    found = group_advantages(wide([[1, 2, 4, 0]]))[0].tolist()
    assert found == close([-0.439129320, 0.146376440, 1.317387960, -1.024635080])


def test_advantages_returns_and_whitening_by_hand():
    rewards, values = wide([[0, 0, -0.1, 1]]), wide([[0.5, 0.4, 0.3, 0.2]])
    advantages, returns = generalised_advantages(rewards, values)
    assert advantages[0].tolist() == close([0.3104, 0.432, 0.56, 0.8])
    assert returns[0].tolist() == close([0.8104, 0.832, 0.86, 1.0])
    white = [-1.186658029, -0.516130072, 0.189688830, 1.513099271]
    assert whiten(advantages)[0].tolist() == close(white)
    padded = whiten(torch.cat([advantages, wide([[99.0] * 4])]), torch.tensor([[1] * 4, [0] * 4]))
    assert padded[0].tolist() == close(white)


def test_ppo_clips_by_hand():
    advantages, ratio = wide([[0.3104, 0.432, 0.56, 0.8]]), wide([[1.3, 0.7, 1.1, 0.95]])
    actor = Ppo().actor(ratio.log(), wide([[0.0] * 4]), advantages)
    assert actor.items[0].tolist() == close([-0.37248, -0.3024, -0.616, -0.76])
    assert float(actor.value) == close(-0.51272) and actor.metrics["clip_fraction"] == 0.5
    critic = Ppo().critic(
        wide([[0.9, 0.35, 0, 0.25]]), wide([[0.5, 0.4, 0.3, 0.2]]), wide([[0.8104, 0.832, 0.86, 1]])
    )
    assert float(critic.value) == close(0.193326520)


def test_token_rewards_put_the_answers_reward_on_its_last_token():
    mask = wide([[1, 1, 0], [1, 1, 1]])
    found = Ppo(kl_weight=0.5).token_rewards(
        wide([[0.2, 0.4, 9], [0, 0, 1]]), wide([2.0, 3.0]), mask
    )
    assert found.tolist() == [close([-0.1, 1.8, 0.0]), close([0.0, 0.0, 2.5])]


def test_kl_estimators_by_hand():
    ratios = wide([-1, -2, -0.3]) - wide([-1.2, -1.5, -0.4])
    expected = {"k1": -0.066666667, "k2": 0.05, "k3": 0.057429814, "abs": 0.266666667}
    for name, value in expected.items():
        assert float(kl(ratios, name).mean()) == close(value)


def _tabular(gradient, steps, lr=0.5):
    """Descend a softmax policy over three answers from ref = [.5, .3, .2]."""
    logits = wide([0.5, 0.3, 0.2]).log().requires_grad_()
    for _ in range(steps):
        gradient(torch.log_softmax(logits, 0)).backward()
        with torch.no_grad():
            logits -= lr * logits.grad
            logits.grad = None
    return torch.softmax(logits.detach(), 0)


def test_dpo_and_rloo_reach_the_same_regularised_optimum():
    """ref = [.5, .3, .2], r = [0, 1, 2], KL weight .5: pi* = [.0367, .1626, .8008]. DPO descends
    the exact distribution of Bradley-Terry pairs; RLOO its exact expectation over two answers."""
    from fedalign.objectives.dpo import Dpo
    from fedalign.objectives.terms import PairTerms

    reference, rewards = wide([0.5, 0.3, 0.2]).log(), wide([0.0, 1.0, 2.0])
    best = wide([0.036666712, 0.162559434, 0.800773854])
    first, second = (
        grid.flatten() for grid in torch.meshgrid(*[torch.arange(3)] * 2, indexing="ij")
    )

    def dpo(logps):
        terms = PairTerms(logps[first], logps[second], reference[first], reference[second])
        chance = torch.sigmoid(rewards[first] - rewards[second])
        pairs = (reference[first] + reference[second]).exp()
        return (Dpo(0.5)(terms).items * chance * pairs).sum()

    def rloo(logps):
        groups = torch.stack([first, second], dim=1)
        loss = Rloo(0.5)(logps[groups], reference[groups], rewards[groups])
        return (loss.items.sum(dim=1) * logps[groups].sum(dim=1).detach().exp()).sum() / 2

    for gradient, steps in ((dpo, 3000), (rloo, 1500)):
        found = _tabular(gradient, steps)
        assert float((found - best).abs().sum() / 2) < 0.01


def test_rejection_sampling_keeps_the_best_of_each_prompt():
    rewards, prompts = wide([1.0, 3.0, 3.0, 5.0, 2.0]), torch.tensor([0, 0, 0, 1, 1])
    assert RejectionSampling(1)(rewards, prompts).tolist() == [False, True, False, True, False]
    assert RejectionSampling(2)(rewards, prompts).tolist() == [False, True, True, True, True]
    expected = {1: 0.0, 2: 0.193147, 4: 0.636294, 16: 1.835089, 64: 3.174508}
    for count, bound in expected.items():
        assert best_of_kl(count) == pytest.approx(bound, abs=1e-6)


# ------------------------------------------------------------------ distillation


def test_distillation_by_hand():
    student, teacher = wide([1, 0.5, -0.2, 0]), wide([2, 0, -1, 0.5])
    cases = [
        (Distillation(), 0.192884523),
        (Distillation("backward"), 0.238983434),
        (Distillation(temperature=2.0), 0.255190283),
        (Distillation(top=2), 0.020635648),
        (Distillation("jsd"), 0.051864023),
    ]
    for objective, value in cases:
        assert float(objective(student[None], teacher[None]).value) == close(value, 2e-7)
        assert float(objective(teacher[None], teacher[None]).value) == close(0.0, 1e-7)
    masked = Distillation()(student.expand(3, 4), teacher.expand(3, 4), torch.tensor([1, 0, 1]))
    assert float(masked.value) == close(0.192884523, 2e-7)


# ------------------------------------------------------------------ SteerLM 2.0


def test_steerlm2_by_hand():
    policy = wide([[-18.5, -19.5, -21]]).requires_grad_()
    attribute, prior, sampled = (
        wide([[-1, -2, -0.5]]),
        wide([[-20, -18, -25]]),
        wide([[-19, -19, -22]]),
    )
    loss = SteerLm2()(attribute, prior, sampled, policy, torch.ones(1, 3))
    w = wide([0.253716182, 0.689672086, 0.056611732])
    b = wide([0.331498960, 0.121951652, 0.546549387])
    assert torch.allclose(loss.items[0], w - b, atol=1e-8)
    assert float(loss.value.detach()) == close(-0.657123704, 1e-8)
    assert loss.metrics["weight_kl"] == close(0.998712281, 1e-8)
    assert float(loss.items.sum()) == close(0.0, 1e-12)
    at_target = (attribute + prior).detach().requires_grad_()
    SteerLm2()(attribute, prior, sampled, at_target, torch.ones(1, 3)).value.backward()
    assert at_target.grad.abs().max() < 1e-12


def test_attribute_masses_by_hand():
    middle = [0.000168889, 0.158360662, 0.682940898, 0.158360662, 0.000168889]
    assert SteerLm2().attribute_masses(2.0).tolist() == close(middle, 1e-8)
    high = [0, 0.000201000, 0.053253104, 0.705500125, 0.241045771]
    assert SteerLm2().attribute_masses(3.2).tolist() == close(high, 1e-6)
    assert float(SteerLm2().attribute_masses(4.0).sum()) == close(1.0, 1e-12)


# ------------------------------------------------------------------ confidence


def test_conqord_by_hand():
    quality, confidence = wide([1, -0.5, 0.25]), wide([0.9, 0.2, 0.6])
    assert Conqord(scale="sum").alignment(quality, confidence).tolist() == close(
        [1.275, 1.35, 0.525]
    )
    assert Conqord().alignment(quality, confidence).tolist() == close([0.6375, 0.675, 0.2625])
    turned = Conqord(scale="sum").alignment(quality, wide([0.2, 0.9, 0.6]))
    assert turned.tolist() == close([-1.35, -1.275, -0.525])


def test_conqord_leaves_unreadable_confidences_out():
    quality = wide([1, -0.5, 0.25, 7.0])
    total = Conqord()(quality, wide([0.9, 0.2, 0.6, torch.nan]))
    expected = [1 + 0.5 * 0.6375, -0.5 + 0.5 * 0.675, 0.25 + 0.5 * 0.2625, 6.0]
    assert total.tolist() == close(expected)
    with pytest.raises(ConfigError, match="at least 4, got 3"):
        Conqord()(quality[:3], quality[:3])


@pytest.mark.parametrize("scale", ["mean", "sum"])
def test_offers_are_the_rewards_of_answers_that_state_something_else(scale):
    """Restating one confidence and asking for its reward, one after the other."""
    objective = Conqord(weight=2.0, scale=scale)
    quality = wide([1, -0.5, 0.25, 7.0, 0.5])
    claimed, levels = wide([0.9, 0.2, 0.6, torch.nan, 0.4]), wide([0.05, 0.5, 0.95])
    offers = objective.offers(quality, claimed, levels)
    for i in (0, 1, 2, 4):
        for column, level in enumerate(levels):
            other = claimed.clone()
            other[i] = level
            assert float(offers[i, column]) == close(float(objective(quality, other)[i]))
    with pytest.raises(ConfigError, match="answer or digit"):
        Conqord(credit="token")


def test_calibration_by_hand():
    confidence = wide([0.95, 0.85, 0.75, 0.65, 0.55, 0.9, 0.3, 0.2])
    correct = wide([1, 1, 0, 1, 0, 1, 0, 1])
    assert calibration_error(confidence, correct, 10) == close(0.38125)
    assert calibration_error(confidence, correct, 5) == close(0.21875)
    assert brier(confidence, correct) == close(0.2190625)


def test_the_entropy_bonus_is_minus_the_gradient_of_entropy():
    """Over the exact distribution of three tokens: E[log pi grad log pi] = -grad H."""
    logits = wide([0.3, -0.2, 1.0]).requires_grad_()
    logps = torch.log_softmax(logits, 0)
    entropy = -(logps.exp() * logps).sum()
    (truth,) = torch.autograd.grad(entropy, logits, retain_graph=True)
    chances, zero = logps.exp().detach(), torch.zeros(1, 1, dtype=torch.float64)
    value = sum(
        chances[i]
        * Ppo(entropy=0.5).actor(logps[i].view(1, 1), logps[i].detach().view(1, 1), zero).value
        for i in range(3)
    )
    (found,) = torch.autograd.grad(value, logits)
    assert torch.allclose(found, -0.5 * truth, atol=1e-12)


def test_bounds():
    assert best_of_kl(1) == 0 and best_of_kl(8) < log(8)
    for make, sentence in (
        (lambda: Ppo(clip=0), "Ppo.clip must be above 0"),
        (lambda: Rloo(baseline="mean"), "leave_one_out or group"),
        (lambda: Distillation("l2"), "forward, backward or jsd"),
        (lambda: RejectionSampling(0), "1 or more"),
        (lambda: SteerLm2(concentration=0), "above 0"),
        (lambda: RejectionSampling(3, answers=2), "at least keep, got 2 and keep=3"),
        (lambda: Ppo(passes=0), "answers and passes must be 1 or more"),
        (lambda: Ppo(estimator="k4"), "k1, abs, k2 or k3"),
        (lambda: Distillation(level="word"), "token or sequence"),
        (lambda: Conqord(format_rounds=-1), "format_rounds >= 0"),
        (lambda: RewardCombined(0), "rating_rounds must be 1 or more"),
        (lambda: SteerLm(annotate="nobody"), "annotate must be model or raters"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            make()
