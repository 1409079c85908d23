"""The policy: equivariant, feasible, starts as greedy, learns, and plays what the episode plays."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from incentives.mta.episode import Episode
from incentives.mta.features import WIDTH, Problems
from incentives.mta.generator import MTAGenerator
from incentives.mta.heuristics.greedy import Greedy
from incentives.mta.heuristics.local_search import LocalSearch
from incentives.mta.heuristics.price_density import PriceDensity
from incentives.mta.instance import MTAInstance
from incentives.mta.optimum import MTAOptimum
from incentives.mta.playout import Playout
from incentives.mta.policy import MTAPolicy
from incentives.mta.reinforce import Reinforce
from incentives.mta.scorer import MTAScorer
from incentives.mta.tabular_q import TabularQ


def _trained(updates=4):
    small = Reinforce(MTAGenerator(12, 4), updates=updates, instances=4, rollouts=4)
    return small(Seeds(0).at("train"))[0]


@pytest.fixture(scope="module")
def scorer():
    return _trained()


def _permuted(instance: MTAInstance, order: np.ndarray) -> MTAInstance:
    """Server i of the new instance is server order[i] of the old one."""
    names = ("capacity", "frequency", "cycles", "power", "rate")
    moved = {name: getattr(instance, name)[order] for name in names}
    return replace(instance, **moved, owner=np.argsort(order)[instance.owner])


@pytest.mark.parametrize("servers", [2, 5, 10])
def test_permuting_servers_permutes_scores(scorer, servers):
    instance, order = (
        MTAGenerator(12, servers)(Seeds(1).at("x")),
        Seeds(2).at("o").permutation(servers),
    )
    one, other = Problems.of([instance]), Problems.of([_permuted(instance, order)])
    remaining = one.capacity[:, None] * 0.7
    for task in range(12):
        before = scorer(one.at(task, remaining), one.feasible(task, remaining))
        moved = remaining[..., order]
        after = scorer(other.at(task, moved), other.feasible(task, moved))
        assert torch.allclose(before[..., :-1][..., order], after[..., :-1], atol=1e-4)
        assert torch.allclose(before[..., -1], after[..., -1], atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_permuting_servers_permutes_the_assignment(scorer, seed):
    """Up to ties: two servers of equal value may change places, what is earned may not."""
    instance = MTAGenerator(20, 6)(Seeds(seed).at("x"))
    order = Seeds(seed).at("o").permutation(6)
    policy = MTAPolicy(scorer, samples=0)
    one, other = policy(instance), policy(_permuted(instance, order))
    assert other.value == pytest.approx(one.value, rel=1e-9)
    ties = len(np.unique(instance.value, axis=1)[0]) < 6
    assert ties or (np.append(order, -1)[other.server] == one.server).all()


@pytest.mark.parametrize("size", [(1, 1), (7, 1), (3, 8), (30, 12)])
def test_any_size_is_played_and_nothing_violated(scorer, size):
    for seed in range(4):
        instance = MTAGenerator(*size)(Seeds(seed).at("x"))
        for found in (
            MTAPolicy(scorer, 0)(instance),
            MTAPolicy(scorer, 8)(instance, Seeds(0).at("p")),
        ):
            assert found.late == found.overfull == 0 and found.value >= 0
            assert found.value <= MTAOptimum().bound(instance) * (1 + 1e-9)


def test_it_plays_the_very_game_of_the_episode(scorer):
    """Replaying the actions step by step earns the same and is allowed throughout."""
    instance = MTAGenerator(15, 5)(Seeds(3).at("x"))
    problems = Problems.of([instance])
    noise = Seeds(3).at("n").gumbel(size=(15, 1, 6, 6)).astype(np.float32)
    played = Playout.of(scorer, problems, noise, keep=False)
    for rollout in range(6):
        episode = Episode(instance, "price")
        turn, earned = episode.start(), 0.0
        for action in played.actions[:, 0, rollout].tolist():
            turn, reward = episode.step(turn, action)
            earned += reward
        assert earned == pytest.approx(played.earned[0, rollout].item(), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_untrained_it_is_greedy_by_price(seed):
    """Last layers are zero: score 15 v / max v against -1 for the rejection. Same choices as
    Greedy where the servers left are worth anything: -1 < 0 <= 15 v / max v."""
    instance = MTAGenerator(30, 8)(Seeds(seed).at("x"))
    fresh = MTAScorer(8, Seeds(0).at("w"))
    assert MTAPolicy(fresh, 0)(instance).value == pytest.approx(Greedy("price")(instance).value)


def test_more_tries_never_earn_less(scorer):
    instance = MTAGenerator(20, 5)(Seeds(0).at("x"))
    best = [MTAPolicy(scorer, k)(instance, Seeds(0).at("p")).value for k in (0, 1, 16)]
    assert best[0] <= min(best[1:])


def test_training_is_a_function_of_its_key_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one, other = _trained(), _trained()
    assert torch.equal(torch.random.get_rng_state(), state)
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_first_update_moves_every_layer_that_has_a_gradient():
    fresh = MTAScorer(32, Seeds(0).at("train"))
    trained = _trained(updates=12)
    moved = {
        name for (name, a), b in zip(fresh.named_parameters(), trained.parameters(), strict=True)
        if not torch.equal(a, b)
    }  # fmt: skip
    assert {"score.weight", "refusal.weight", "own.weight", "mixed.weight", "boldness"} <= moved


def test_features_are_finite_bounded_and_of_the_declared_width():
    instances = [MTAGenerator(9, 3)(Seeds(s).at("x")) for s in range(5)]
    problems = Problems.of(instances)
    for task in range(9):
        for left in (1.0, 0.3, 0.0):
            seen = problems.at(task, problems.capacity[:, None] * left)
            assert seen.shape == (5, 1, 3, WIDTH) and seen.dtype == torch.float32
            assert seen.isfinite().all() and seen.abs().max() <= 3.0


def test_a_server_without_capacity_is_never_chosen(scorer):
    instance = MTAGenerator(10, 3)(Seeds(1).at("x"))
    none = replace(instance, capacity=np.zeros(3))
    assert MTAPolicy(scorer, 4)(none, Seeds(0).at("p")).served == 0


@pytest.mark.slow
def test_a_short_training_beats_heuristics_and_table_on_unseen_instances():
    """The study's claim with a quarter of its training: 20 instances never seen, against the
    linear bound. Measured .973, one try .964; local search .966, greedy by price .948."""
    trainer = Reinforce(MTAGenerator(50, 10), updates=200, instances=8)
    trained, history = trainer(Seeds(0).at("train"))
    assert np.mean(history[-20:]) > np.mean(history[:20]) + 0.015
    policy, ratios = MTAPolicy(trained), []
    for k in range(20):
        instance, rng = MTAGenerator(50, 10)(Seeds(1).at("unseen", k=k)), Seeds(1).at("p", k=k)
        found = [
            policy(instance, rng), LocalSearch()(instance), Greedy("price")(instance),
            PriceDensity()(instance), TabularQ(episodes=100)(instance, rng),
        ]  # fmt: skip
        ratios.append(np.array([f.value for f in found]) / MTAOptimum().bound(instance))
    learned, *others = np.mean(ratios, axis=0)
    assert learned > max(others) and learned > 0.965


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Reinforce(updates=0), "updates must be 1 or more"),
        (lambda: Reinforce(rollouts=1), "rollouts must be 2 or more"),
        (lambda: Reinforce(learning_rate=0.0), "learning_rate must be above 0"),
        (lambda: Reinforce(entropy=-1.0), "entropy 0 or more"),
        (lambda: MTAPolicy(None, -1), "samples must be 0 or more"),
        (lambda: MTAPolicy(None, 1)(MTAGenerator()(Seeds(0).at("x"))), "need an rng"),
        (
            lambda: Problems.of([MTAGenerator(3, n)(Seeds(0).at("x")) for n in (2, 3)]),
            "instances of one size",
        ),
    ],
)
def test_refuses(make, says):
    with pytest.raises(ConfigError, match=says):
        make()
