"""MTAEnv: gymnasium's own checker, rewards that sum to the objective, nothing violated."""

import numpy as np
import pytest

from fedalign.core.errors import ConfigError
from incentives.mta.assignment import Assignment
from incentives.mta.episode import Episode
from incentives.mta.generator import MTAGenerator
from incentives.mta.optimum import MTAOptimum

pytest.importorskip("gymnasium", reason="MTAEnv needs gymnasium: pip install gymnasium")

from incentives.mta.environment import MTAEnv
from tests.incentives.mta.test_instance import T1, small


@pytest.mark.parametrize("order", ["given", "price"])
def test_gymnasiums_checker_passes(order):
    from gymnasium.utils.env_checker import check_env

    check_env(MTAEnv(MTAGenerator(12, 4), order), skip_render_check=True)


@pytest.mark.parametrize("order", ["given", "price"])
def test_rewards_of_the_optimum_sum_to_the_milp_objective(order):
    env = MTAEnv(MTAGenerator(8, 3), order)
    env.reset(options={"instance": T1})
    best, total, over = MTAOptimum()(T1).assignment, 0.0, False
    for task in Episode(T1, order).left(Episode(T1, order).start()):
        assert not over
        server = best.server[task]
        _, reward, over, truncated, info = env.step(server if server >= 0 else 3)
        assert not truncated and not info["refused"]
        total += reward
    assert over and total * T1.unit == pytest.approx(best.value, rel=1e-12)
    assert (info["assignment"] == best.server).all()


def test_masked_random_play_never_violates_and_pays_its_value():
    env, rng = MTAEnv(MTAGenerator(30, 5)), np.random.default_rng(0)
    for seed in range(5):
        _, info = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            action = rng.choice(np.flatnonzero(info["action_mask"]))
            seen, reward, over, _, info = env.step(action)
            total += reward
            assert env.observation_space.contains(seen)
        found = Assignment(env.instance, info["assignment"])
        assert found.late == found.overfull == 0
        assert total * env.instance.unit == pytest.approx(found.value, rel=1e-12)


def test_first_observation_by_hand():
    """price 2/3, data 10/20, limit 5/30; owner 0; both servers empty; v = (36.8, not allowed) over
    97.6; w / Q = 20/40, 10/60; all tasks left, mean price 2.5/3, mean data 15/20."""
    env = MTAEnv(MTAGenerator(2, 2))
    seen, info = env.reset(options={"instance": small()})
    wanted = [2 / 3, 0.5, 1 / 6, 1, 0, 1, 1, 36.8 / 97.6, 0, 0.5, 1 / 6, 1, 2.5 / 3, 0.75]
    assert seen == pytest.approx(wanted, rel=1e-6)
    assert info["action_mask"].tolist() == [1, 0, 1]
    seen, *_ = env.step(0)
    assert seen[5] == pytest.approx(0.5)  # half of server 0 is used


def test_an_infeasible_choice_is_a_rejection_and_is_told():
    env = MTAEnv(MTAGenerator(2, 2))
    env.reset(options={"instance": small()})
    _, reward, _, _, info = env.step(1)
    assert reward == 0 and info["refused"] and info["assignment"].tolist() == [-1, -1]


def test_a_seed_replays():
    env = MTAEnv(MTAGenerator(6, 3))
    one, _ = env.reset(seed=7)
    other, _ = env.reset(seed=7)
    third, _ = env.reset()
    assert (one == other).all() and (third != one).any()


def test_the_public_codes_owner_pays_without_serving():
    legacy = small(limit=[4, 30], legacy_reward=True)
    env = MTAEnv(MTAGenerator(2, 2))
    _, info = env.reset(options={"instance": legacy})
    assert info["action_mask"].tolist() == [1, 0, 1]
    _, reward, _, _, info = env.step(0)
    assert reward * legacy.unit == pytest.approx(-12) and info["assignment"].tolist() == [-1, -1]


def test_refuses_what_cannot_be_played():
    with pytest.raises(ConfigError, match="order=given or price"):
        MTAEnv(order="random")
    env = MTAEnv(MTAGenerator(2, 2))
    with pytest.raises(ConfigError, match="call reset first"):
        env.step(0)
    with pytest.raises(ConfigError, match=r"2 servers, the instance 3"):
        env.reset(options={"instance": T1})
    env.reset(options={"instance": small()})
    with pytest.raises(ConfigError, match="an action is 0 to 2, got 3"):
        env.step(3)
    episode = Episode(small())
    with pytest.raises(ConfigError, match=r"Task 0 cannot go to server 1: choose one of \[0, 2\]"):
        episode.step(episode.start(), 1)
    with pytest.raises(ConfigError, match="order=given or price"):
        Episode(small(), "worst")
