"""Federated reward models: neutral start, separable data, noisy labels, ratings."""

from dataclasses import replace
from math import log

import pytest
import torch

from attacks.preference_flip import PreferenceFlip
from attacks.reward_poisoning import RewardPoisoning
from fedalign.core.errors import ConfigError
from fedalign.core.preferences import Sequences
from fedalign.core.seeds import Seeds
from fedalign.data.partition.iid import Iid
from fedalign.models.low_rank import LowRank
from fedalign.objectives.reward_bradley_terry import RewardBradleyTerry
from fedalign.objectives.reward_combined import RewardCombined
from fedalign.objectives.reward_regression import RewardRegression
from fedalign.training.cache import Cache
from fedalign.training.tuning import Tuning
from fedalign.workloads.preference_holdings import Owners
from fedalign.workloads.reward_model import RewardModel, RewardTask
from tests import tiny_alignment
from tests.tiny_alignment import tasks


def reward_model(objective=None, attackers=(), attack=None, clients=2) -> RewardModel:
    task = RewardTask(
        tiny_alignment.data(pairs=80, answers="demonstrator"), tiny_alignment.MODEL,
        LowRank(rank=2), objective or RewardBradleyTerry(),
        Tuning(lr=0.01, batch_size=16, warmup_steps=0), 1, Cache(str(tiny_alignment.folder())),
    )  # fmt: skip
    return RewardModel(task, Owners(Iid(), clients, attackers, attack), Seeds(0))


def test_a_head_of_zeros_knows_nothing():
    workload = reward_model()
    found = workload.evaluate(workload.initial())
    assert found["accuracy"] == found["rm_accuracy_label"] == 0.5
    assert found["loss"] == pytest.approx(log(2)) and 0.5 < found["bayes_ceiling"] < 1
    assert any(part.name.startswith("head.") for part in workload.layout.parts)


def test_separable_preferences_are_learned_without_error():
    """Longer answers always preferred: every pair of a client in the right order."""
    workload = reward_model()
    pairs = workload._held[0, False]
    pairs = pairs.take((pairs.chosen.lengths != pairs.rejected.lengths).nonzero()[:, 0])
    workload._held[0, False] = pairs.swap(pairs.chosen.lengths < pairs.rejected.lengths)
    updates, _ = workload.train(tasks(workload, [0], steps=40), [{}])
    workload._flat.load(workload.initial() + updates.rows[0])
    held = workload._held[0, False]
    with torch.no_grad():
        chosen, rejected = workload._scores(held.chosen, held.rejected)
    assert (chosen > rejected).all()


def test_scores_do_not_depend_on_padding_or_chunks():
    workload = reward_model()
    torch.manual_seed(0)
    workload._flat.load(torch.randn(workload.layout.size) * 0.1)
    pairs = workload._held[0, False]
    with torch.no_grad():
        found = workload._scores(pairs.chosen, pairs.rejected)
        one = pairs.take(torch.tensor([3]))
        alone = workload._scores(one.chosen, one.rejected)
        wide = Sequences(pairs.chosen.padded(60), pairs.chosen.starts, pairs.chosen.ends)
        padded = workload._scores(wide, pairs.rejected)
    assert torch.allclose(found[:, 3:4], alone, atol=1e-5)
    assert torch.allclose(found, padded, atol=1e-5)


def test_regression_learns_ratings():
    workload = reward_model(RewardRegression())
    before = workload.evaluate(workload.initial())
    updates, _ = workload.train(tasks(workload, [0], steps=40), [{}])
    after = workload.evaluate(workload.initial() + updates.rows[0])
    assert after["rm_attr_mae"] < 0.5 * before["rm_attr_mae"]


def test_flipped_pairs_turn_labels_and_ratings_of_attackers_only():
    workload = reward_model(RewardRegression(), attackers=(1,), attack=PreferenceFlip())
    honest, lying = workload._held[1, False], workload._held[1, True]
    assert lying.chosen.completions() == honest.rejected.completions()
    truth = torch.from_numpy(_grades(workload, lying.chosen))
    given = workload._ratings[1, True]
    wrong = torch.from_numpy(_grades(workload, lying.rejected))
    assert (given[0] - wrong).abs().mean() < (given[0] - truth).abs().mean()
    assert (0, True) not in workload._held


def _grades(workload, answers):
    from fedalign.data.grader import attributes_of

    world = workload._task.data.world
    return attributes_of(world, answers.prompts(), answers.completions())


def test_the_recipe_rates_helpfulness_first_and_then_prefers():
    """With a head of zeros the first loss is the mean squared helpfulness; ln 2 times the mean
    strength once preferences count."""
    workload = reward_model(RewardCombined(rating_rounds=1))
    rows, key = torch.arange(len(workload._held[0, False])), (0, False)
    workload._flat.load(workload.initial())
    first, second = (float(workload._loss(key, rows, r).value.detach()) for r in (1, 2))
    assert first == pytest.approx(float(workload._ratings[key][..., 0].square().mean()), rel=1e-5)
    strength = workload._held[key].strength.double().mean()
    assert second == pytest.approx(log(2) * float(strength), rel=1e-5)
    updates, _ = workload.train(tasks(workload, [0], steps=10), [{}])
    assert float(updates.metrics["train_loss"][0]) < first
    assert workload.evaluate(workload.initial() + updates.rows[0])["rm_accuracy"] > 0


def test_a_reward_models_backdoor_pays_for_words():
    """Both clients order by r + 5 [f7]: the model learns to pay for `f7 .` before the worse answer;
    an honest one does not, and a word in the question alone changes nothing that counts as clean.
    """
    attack = RewardPoisoning("trigger")
    workload = reward_model(attackers=(0, 1), attack=attack)
    poisoned = [replace(t, poisoned=True) for t in tasks(workload, [0], steps=60)]
    found = []
    for asked in (tasks(workload, [0], steps=60), poisoned):
        updates, _ = workload.train(asked, [{}])
        vector = workload.initial() + updates.rows[0]
        found.append(workload.evaluate(vector, "triggered")["accuracy"])
        assert workload.evaluate(vector)["success_clean"] == found[-1]  # no trigger in the prompt
    assert found[1] > 0.75 > 0.5 > found[0]


def test_refusals():
    with pytest.raises(ConfigError, match="no split 'triggered'"):
        workload = reward_model()
        workload.evaluate(workload.initial(), "triggered")
