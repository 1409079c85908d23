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
from fedalign.data.annotator import Annotator
from fedalign.data.partition.iid import Iid
from fedalign.models.low_rank import LowRank
from fedalign.objectives.reward_bradley_terry import RewardBradleyTerry
from fedalign.objectives.reward_combined import RewardCombined
from fedalign.objectives.reward_regression import RewardRegression
from fedalign.objectives.reward_selector import RewardSelector
from fedalign.training.cache import Cache
from fedalign.training.scoring import tournament
from fedalign.training.tuning import Tuning
from fedalign.workloads.preference_holdings import Owners
from fedalign.workloads.reward_model import RewardModel, RewardTask
from tests import tiny_alignment
from tests.tiny_alignment import tasks


def reward_model(
    objective=None, attackers=(), attack=None, clients=2, local=0, **data
) -> RewardModel:
    task = RewardTask(
        tiny_alignment.data(pairs=80, answers="demonstrator", local_evaluation=local, **data),
        tiny_alignment.MODEL,
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
        chosen, rejected = workload._scoring.scores(held.chosen, held.rejected)
    assert (chosen > rejected).all()


def test_scores_do_not_depend_on_padding_or_chunks():
    workload = reward_model()
    torch.manual_seed(0)
    workload._flat.load(torch.randn(workload.layout.size) * 0.1)
    pairs = workload._held[0, False]
    with torch.no_grad():
        found = workload._scoring.scores(pairs.chosen, pairs.rejected)
        one = pairs.take(torch.tensor([3]))
        alone = workload._scoring.scores(one.chosen, one.rejected)
        wide = Sequences(pairs.chosen.padded(60), pairs.chosen.starts, pairs.chosen.ends)
        padded = workload._scoring.scores(wide, pairs.rejected)
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


# ------------------------------------------------------------------ selectors


def randomised(workload):
    torch.manual_seed(0)
    vector = torch.randn(workload.layout.size) * 0.1
    workload._flat.load(vector)
    return vector


@pytest.mark.parametrize("pool", ["last", "mean"])
def test_a_selector_reads_both_answers_whatever_else_is_in_the_batch(pool):
    """The second answer's end has seen the first; padding and company change nothing."""
    workload = reward_model(RewardSelector(pool))
    assert workload.evaluate(workload.initial())["loss"] == pytest.approx(log(2))
    randomised(workload)
    pairs = workload._held[0, False]
    with torch.no_grad():
        found = workload._scoring.between(pairs.chosen, pairs.rejected)
        one = pairs.take(torch.tensor([3]))
        alone = workload._scoring.between(one.chosen, one.rejected)
        other = pairs.take(torch.tensor([4])).chosen.completions()
        elsewhere = workload._scoring.between(
            Sequences.of(one.chosen.prompts(), other), one.rejected
        )
        gap = workload._scoring.gap(pairs.chosen, pairs.rejected)
        turned = workload._scoring.gap(pairs.rejected, pairs.chosen)
    assert torch.allclose(found[3], alone, atol=1e-5)
    assert not torch.allclose(alone, elsewhere, atol=1e-3)
    assert torch.allclose(gap, -turned, atol=1e-6) and gap.any()


def test_a_selectors_pairs_have_another_order_in_every_round():
    """A coin for each pair and round; where it is evaluated, the mean of both log-odds."""
    workload = reward_model(RewardSelector())
    loss = workload.evaluate(randomised(workload))["loss"]
    pairs, test = workload._held[0, False], workload._held[-2, False]
    rows = torch.arange(len(pairs))
    with torch.no_grad():
        first, again, later = (workload._loss((0, False), rows, r).items for r in (1, 1, 2))
        gap = workload._scoring.gap(test.chosen, test.rejected)
        one = workload._scoring.between(pairs.chosen, pairs.rejected)
        other = -workload._scoring.between(pairs.rejected, pairs.chosen)
    assert torch.equal(first, again) and not torch.allclose(first, later)
    both = torch.nn.functional.softplus(-torch.stack([one, other]))
    for items in (first, later):
        apart = (both - items).abs()
        assert apart.min(dim=0).values.max() < 1e-5
        assert 0.2 < float((apart[0] < apart[1]).double().mean()) < 0.8
    assert loss == pytest.approx(float(torch.nn.functional.softplus(-gap).mean()), rel=1e-5)


def test_a_selector_learns_which_answer_has_a_word():
    """The word that tells most pairs apart, in the better answer always."""
    workload = reward_model(RewardSelector("mean"))
    pairs = workload._held[0, False]
    sides = pairs.chosen.completions(), pairs.rejected.completions()
    has = torch.tensor([[[w in a for w in range(88)] for a in side] for side in sides])
    word = int((has[0] ^ has[1]).sum(dim=0).argmax())
    apart = (has[0] ^ has[1])[:, word].nonzero()[:, 0]
    workload._held[0, False] = pairs.take(apart).swap(has[1][apart, word])
    updates, _ = workload.train(tasks(workload, [0], steps=40), [{}])
    workload._flat.load(workload.initial() + updates.rows[0])
    held = workload._held[0, False]
    with torch.no_grad():
        right = (workload._scoring.gap(held.chosen, held.rejected) > 0).double().mean()
    assert len(held) > 10 and right > 0.9


def test_answers_that_are_only_compared_play_a_tournament():
    """Three answers to one prompt, one to another: wins minus losses over three, and nothing."""
    workload = reward_model(RewardSelector())
    vector = randomised(workload)
    pairs = workload._held[0, False].take(torch.tensor([0, 1, 2]))
    prompt, other = pairs.chosen.prompts()[0], [*pairs.chosen.prompts()[0][:-2], 3, 4]
    answers = pairs.chosen.completions()
    worth = workload.reward(vector)(
        [prompt, prompt, other, prompt], [*answers[:2], [5], answers[2]]
    )

    def beats(a, b):
        sides = (Sequences.of([prompt], [x]) for x in (a, b))
        with torch.no_grad():
            return float(workload._scoring.gap(*sides).sign())

    wanted = [sum(beats(a, b) for b in answers if b != a) / 3 for a in answers]
    assert worth.tolist() == pytest.approx([wanted[0], wanted[1], 0.0, wanted[2]])
    opposed = workload.reward(vector, vector, vector)([prompt] * 3, answers)
    assert opposed.tolist() == pytest.approx(wanted)


def test_many_answers_meet_eight_rivals_each_and_the_best_of_all_still_wins():
    """Votes by length: the longest of twelve beats all eight that it meets, the shortest none."""
    met = []

    def votes(one, other):
        met.append(len(one))
        return (one.lengths - other.lengths).sign().float()

    answers = [[7] * size for size in range(12, 0, -1)]
    worth = tournament(votes, 1, torch.device("cpu"), [[1, 2]] * 12, answers)
    assert met == [12 * 4] and worth.sum() == pytest.approx(0)
    assert worth[0] == pytest.approx(8 / 9) == worth.max() and worth[-1] == pytest.approx(-8 / 9)


def test_clients_judge_by_their_own_values():
    workload = reward_model(local=12)
    assert workload.judges and not reward_model().judges
    vector = randomised(workload)
    asked = [replace(t, step="evaluate") for t in tasks(workload, [0, 1], vector=vector)]
    found = workload.judge(asked, [{}] * 2)
    gold = workload._held[-2, False].take(torch.arange(12))
    with torch.no_grad():
        gap = workload._scoring.gap(gold.chosen, gold.rejected)
    right = (gap * (gold.scores[:, 0] - gold.scores[:, 1]) > 0).double().mean()
    assert found.rows.shape == (2, 0)  # one mind here: everybody's values are the gold ones
    assert found.metrics["rm_accuracy_local"].tolist() == pytest.approx([float(right)] * 2)
    assert workload.evaluate(vector)["rm_accuracy_mean"] == pytest.approx(float(right))


def test_clients_of_two_minds_judge_differently_and_their_mean_is_a_third_judge():
    workload = reward_model(local=12, annotator=Annotator(heterogeneity=1.0))
    vector = randomised(workload)
    asked = [replace(t, step="evaluate") for t in tasks(workload, [0, 1], vector=vector)]
    local = workload.judge(asked, [{}] * 2).metrics["rm_accuracy_local"]
    assert local[0] != local[1]
    gap, minds = workload._on_test(vector), [workload._values(c) for c in (0, 1)]
    mean = workload.evaluate(vector)["rm_accuracy_mean"]
    assert mean == workload._agreement(gap, (minds[0] + minds[1]) / 2)
    voted = workload.voted([vector, vector, -vector])
    assert voted["rm_accuracy_mean"] == mean


def test_refusals():
    with pytest.raises(ConfigError, match="no split 'triggered'"):
        workload = reward_model()
        workload.evaluate(workload.initial(), "triggered")
