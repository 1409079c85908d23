"""What groups think of the same answers, combined: numbers by hand, limits, symmetry, refusals."""

from itertools import permutations
from math import log

import pytest
import torch

from fedalign.core.errors import ConfigError
from fedalign.objectives.group_reward import group_reward
from fedalign.objectives.ppo import Ppo
from fedalign.objectives.rejection_sampling import RejectionSampling
from fedalign.objectives.rloo import Rloo

RULES = ("mean", "min", "max", "adaptive")
FIRST, SECOND = [0.0, 2 * log(3)], [1.0, -1.0]


def wide(values):
    return torch.tensor(values, dtype=torch.float64)


def some(groups=3, answers=7):
    numbers = torch.Generator().manual_seed(0)
    return torch.randn(groups, answers, generator=numbers, dtype=torch.float64)


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        ("mean", [0.5, log(3) - 0.5]),
        ("min", [0.0, -1.0]),
        ("max", [1.0, 2 * log(3)]),
        ("adaptive", [0.75, 0.5 * log(3) - 0.75]),
    ],
)
def test_two_groups_by_hand(rule, values):
    """Means ln 3 and 0: e^-ln 3 : e^0 = 1 : 3, so the second group weighs 3 / 4."""
    assert group_reward(wide([FIRST, SECOND]), rule).tolist() == pytest.approx(values, abs=1e-12)


def test_temperature_goes_from_the_worst_off_group_to_the_mean():
    rewards = some()
    worst = rewards[rewards.mean(dim=1).argmin()]
    assert torch.allclose(group_reward(rewards, "adaptive", 1e-6), worst)
    assert torch.allclose(group_reward(rewards, "adaptive", 1e9), rewards.mean(dim=0), atol=1e-8)
    served = [
        float(group_reward(rewards, "adaptive", t).mean()) for t in (0.01, 0.1, 1.0, 10.0, 100.0)
    ]
    assert served == sorted(served)


@pytest.mark.parametrize("rule", RULES)
def test_nobodys_place_counts(rule):
    """Groups in another order give the same rewards; answers in another order give them so; a
    group alone keeps its own; what all gain, the reward gains."""
    rewards = some()
    found = group_reward(rewards, rule)
    for order in permutations(range(3)):
        assert torch.allclose(group_reward(rewards[list(order)], rule), found, atol=1e-12)
    turned = torch.arange(6, -1, -1)
    assert torch.allclose(group_reward(rewards[:, turned], rule), found[turned], atol=1e-12)
    assert torch.equal(group_reward(rewards[:1], rule), rewards[0])
    assert torch.allclose(group_reward(rewards + 2.5, rule), found + 2.5, atol=1e-12)
    assert (rewards.amin(dim=0) <= found).all() and (found <= rewards.amax(dim=0)).all()


def test_equal_groups_agree_on_every_bit():
    same = some(1).expand(2, 7)
    assert all(torch.equal(group_reward(same, rule), same[0]) for rule in RULES)


@pytest.mark.parametrize("kind", [Rloo, Ppo, RejectionSampling])
def test_what_cannot_be_climbed_is_refused_in_a_sentence(kind):
    name = kind.__name__
    with pytest.raises(
        ConfigError, match=f"{name}.groups must be own, mean, min, max or adaptive, got 'median'"
    ):
        kind(groups="median")
    with pytest.raises(ConfigError, match=f"{name}.group_temperature must be above 0, got 0"):
        kind(groups="adaptive", group_temperature=0)
    with pytest.raises(ConfigError, match=f"{name}.groups=min .* a learned reward_model has no"):
        kind(groups="min", reward_model="outputs/reward_models")
    assert kind(reward_model="outputs/reward_models").groups == "own"
    with pytest.raises(ConfigError, match="mean, min, max or adaptive, got 'own'"):
        group_reward(wide([FIRST, SECOND]), "own")
