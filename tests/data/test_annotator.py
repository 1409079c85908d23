"""Annotators: probabilities by hand, values per client, labels that follow them."""

import numpy as np
import pytest
import torch

from fedalign.core.errors import ConfigError, UnknownNameError
from fedalign.core.preferences import Preferences, Sequences
from fedalign.data.annotator import Annotator, Pool, annotate, bayes_ceiling
from fedalign.data.graded_facts import CLUSTERS, WEIGHTS, World
from fedalign.data.graded_preferences import GradedFacts, split_of


def pool(world=None, count=3000, seed=0):
    world, rng = world or World(), np.random.default_rng(seed)
    prompts = [world.draw(rng) for _ in range(count)]
    first, second = ([world.demonstrate(p, rng) for p in prompts] for _ in range(2))
    return Pool.of(world, prompts, first, second)


def chance(first, second, **knobs):
    return float(Annotator(**knobs).probability(np.array(first), np.array(second)))


def test_probabilities_by_hand():
    assert chance(7.22, 5.34) == pytest.approx(0.977246057, abs=1e-9)
    assert chance(4.63, 3.92, error=0.1) == pytest.approx(0.744270733, abs=1e-9)
    assert chance(3.0, 3.0) == 0.5 and chance(1e6, -1e6) == 1.0


def test_labels_follow_the_probabilities_and_flips_are_marked():
    """Agreement with the gold order is E max(P, 1 - P); errors turn exactly their share round."""
    world, pairs = World(), pool()
    for error in (0.0, 0.3):
        who = Annotator(error=error)
        labels = annotate(world, pairs, who, WEIGHTS, np.random.default_rng(1))
        gap = labels.scores[:, 0] - labels.scores[:, 1]
        agree = float((gap > 0).double().mean() + 0.5 * (gap == 0).double().mean())
        width = 3.3 * 0.5 / np.sqrt(len(labels))
        assert abs(agree - bayes_ceiling(world, pairs, who)) < width
        assert abs(float(labels.flipped.double().mean()) - error) < width
    assert bayes_ceiling(world, pairs, Annotator(error=0.5)) == 0.5


def test_strength_is_one_two_three_by_the_gap():
    labels = annotate(World(), pool(), Annotator(), WEIGHTS, np.random.default_rng(0))
    gap = (labels.scores[:, 0] - labels.scores[:, 1]).abs()
    clear = ((gap - 0.5).abs() > 1e-4) & ((gap - 1.5).abs() > 1e-4)
    assert (labels.strength == 1 + (gap > 0.5).long() + (gap > 1.5).long())[clear].all()
    assert set(labels.strength.tolist()) == {1, 2, 3}


def test_heterogeneity_moves_a_clients_values_to_its_cluster():
    rng = np.random.default_rng(0)
    assert np.allclose(Annotator().weights(0, rng), WEIGHTS)
    apart = Annotator(heterogeneity=1.0)
    assert np.allclose(apart.weights(0, rng), CLUSTERS["terse_expert"])
    assert np.allclose(apart.weights(3, rng), CLUSTERS["chatty_layman"])
    half = Annotator(heterogeneity=0.5).weights(1, rng)
    assert np.allclose(half, (np.array(WEIGHTS) + CLUSTERS["chatty_layman"]) / 2)


def test_a_length_bias_prefers_the_longer_answer():
    world, pairs = World(), pool(count=800)
    labels = annotate(world, pairs, Annotator(length_bias=100.0), WEIGHTS, np.random.default_rng(0))
    assert (labels.chosen.lengths >= labels.rejected.lengths - 1).all()


def test_swapping_is_an_involution_and_taking_commutes_with_it():
    labels = annotate(World(), pool(count=60), Annotator(), WEIGHTS, np.random.default_rng(0))
    rows = torch.arange(len(labels)) % 3 == 0
    once = labels.swap(rows)
    assert once.chosen.completions()[0] == labels.rejected.completions()[0]
    assert once.chosen.completions()[1] == labels.chosen.completions()[1]
    twice = once.swap(rows)
    assert twice.chosen.completions() == labels.chosen.completions()
    assert torch.equal(twice.scores, labels.scores) and torch.equal(twice.flipped, labels.flipped)
    some = torch.tensor([5, 2])
    assert once.take(some).chosen.completions() == [once.chosen.completions()[i] for i in (5, 2)]
    joined = Preferences.concatenate([once.take(some), labels.take(some)])
    assert joined.chosen.completions()[2:] == labels.take(some).chosen.completions()


def test_no_prompt_is_in_two_splits_and_seeds_reproduce_the_data():
    data = GradedFacts(World(), Annotator())
    train, test = data.prompts("train", 500), data.prompts("eval", 200)
    assert not set(map(tuple, train)) & set(map(tuple, test))
    assert {split_of(p) for p in test} == {"eval"}
    again = GradedFacts(World(), Annotator()).prompts("train", 500)
    assert again == train
    small = GradedFacts(World(), Annotator(), demonstrations=50).demonstrated()
    assert torch.equal(small.tokens, GradedFacts(World(), Annotator(), demonstrations=50)
                       .demonstrated().tokens)  # fmt: skip


def test_refusals():
    with pytest.raises(ConfigError, match=r"data.annotator.error must be in \[0, 0.5\], got 0.6"):
        Annotator(error=0.6)
    with pytest.raises(UnknownNameError, match="terse_expert"):
        Annotator(clusters=["terse_experts"])
    with pytest.raises(ConfigError, match=r"data\.pairs must be 1 or more"):
        GradedFacts(World(), Annotator(), pairs=0)
    with pytest.raises(Exception, match="Row 1 has an empty completion"):
        Sequences.of([[1], [1]], [[2], []])


def test_noise_is_dealt_to_clients_in_turn():
    who = Annotator(errors=(0.0, 0.4), temperatures=(0.5, 1.0, 2.0))
    assert [who.of(c).error for c in range(4)] == [0.0, 0.4, 0.0, 0.4]
    assert [who.of(c).temperature for c in range(4)] == [0.5, 1.0, 2.0, 0.5]
    assert Annotator(error=0.1).of(3) == Annotator(error=0.1)
    for wrong in ({"errors": (0.1, 0.6)}, {"temperatures": (1.0, 0.0)}):
        with pytest.raises(ConfigError, match=r"data\.annotator\.(errors|temperatures) must be"):
            Annotator(**wrong)


def test_a_topic_is_the_entity_or_the_count_of_facts_asked_for():
    by_entity = GradedFacts(World(), Annotator())
    prompts = by_entity.prompts("train", 50)
    words = [by_entity.world.decode(p).split() for p in prompts]
    assert by_entity.topics(prompts).tolist() == [int(w[2][1:]) for w in words]
    by_count = GradedFacts(World(), Annotator(), topic="count")
    assert by_count.topics(prompts).tolist() == [len(w) - 5 - 1 for w in words]
    assert set(by_count.topics(prompts)) == {0, 1, 2}
    with pytest.raises(ConfigError, match=r"data\.topic must be entity or count, got 'k'"):
        GradedFacts(World(), Annotator(), topic="k")
