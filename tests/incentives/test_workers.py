"""Private types that clients keep, and what effort does."""

import numpy as np
import pytest
import torch

from fedalign.core.contracts import Work
from fedalign.core.errors import ConfigError
from incentives.workers import Workers
from tests.incentives.small_markets import market


def test_a_client_keeps_its_types_whoever_else_takes_part():
    workers = Workers()
    alone, among = workers.types(market([5])), workers.types(market(range(9), round=7))
    for trait in ("cost", "quality", "capacity"):
        assert getattr(alone, trait)[0] == getattr(among, trait)[5]
        low, high = getattr(workers, trait)
        values = getattr(among, trait)
        assert len(set(values)) == 9 and (values >= low).all() and (values <= high).all()
    other = workers.types(market([5], seed=1))
    assert other.cost[0] != alone.cost[0] and alone.cost[0] != alone.capacity[0]


def test_effort_becomes_steps_to_the_nearest_and_half_a_step_is_none():
    """4 steps per GHz: 0.1 GHz is 0.4 steps, 0.125 is half a step, 0.9 is 3.6, 1 is 4."""
    effort = np.array([0.0, 0.1, 0.125, 0.9, 1.0])
    expected = [None, None, Work(steps=1), Work(steps=4), Work(steps=4)]
    assert Workers(steps_per_ghz=4).work(effort) == expected


def test_seconds_are_cycles_over_power():
    """0.5 gigacycles per sample, 10 and 30 samples, 2 GHz: 2.5 s and 7.5 s; who rests needs none."""
    workers = Workers(gigacycles_per_sample=0.5)
    seconds = workers.seconds(np.array([2.0, 2.0, 0.0]), torch.tensor([10, 30, 10]))
    assert seconds.tolist() == [2.5, 7.5, 0.0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cost": (0.0, 1.0)}, r"cost must be two numbers \[least, most\] with above 0"),
        ({"cost": (3.0, 1.0)}, "least, most"),
        ({"quality": (0.5,)}, "quality must be two numbers"),
        ({"capacity": (1.0, float("inf"))}, "capacity must be two numbers"),
        ({"capacity": "big"}, "capacity must be two numbers"),
        ({"steps_per_ghz": 0}, "steps_per_ghz must be finite and at least"),
        ({"gigacycles_per_sample": -1}, "gigacycles_per_sample must be finite and at least 0"),
    ],
)
def test_refusals(given, message):
    with pytest.raises(ConfigError, match=message):
        Workers(**given)
