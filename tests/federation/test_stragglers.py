"""Outages follow their kind, and only the seed decides."""

import numpy as np
import pytest

from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from fedalign.federation.stragglers import Stragglers

FIVE = [10, 11, 12, 13, 14]


def rounds(stragglers, count, members=FIVE, start=3, level="device", seed=0):
    seeds = Seeds(seed)
    return [stragglers.away(level, 2, members, r, start, seeds) for r in range(1, count + 1)]


def test_nobody_is_away_in_the_cold_boot_nor_where_there_are_no_stragglers():
    assert not any(rounds(Stragglers("none"), 20))
    for kind in ("temporary", "permanent", "bursty"):
        assert not any(rounds(Stragglers(kind, share=1.0), 2))


def test_temporary_ones_are_others_every_round_and_as_many_as_the_share_says():
    """.2 of 5 is one; .3 of 5 is one or two, 1.5 on average."""
    away = rounds(Stragglers("temporary"), 60)[2:]
    assert {len(a) for a in away} == {1} and set().union(*away) == set(FIVE)
    counts = [len(a) for a in rounds(Stragglers("temporary", share=0.3), 400)[2:]]
    assert set(counts) == {1, 2} and np.mean(counts) == pytest.approx(1.5, abs=0.1)


def test_permanent_ones_are_the_same_for_ever():
    away = rounds(Stragglers("permanent", share=0.4), 40)[2:]
    assert all(a == away[0] for a in away) and len(away[0]) == 2


def test_bursts_last_as_long_and_take_as_much_as_they_should():
    """Over many members: the share of rounds away, and the mean length of an outage."""
    members = list(range(60))
    kept = Stragglers("bursty", share=0.25, burst=4.0)
    states = np.array([[u in a for u in members] for a in rounds(kept, 202, members)[2:]])
    begins = (np.diff(states.astype(int), axis=0) == 1).sum()
    assert states.mean() == pytest.approx(0.25, abs=0.04)
    assert states[1:].sum() / begins == pytest.approx(4.0, rel=0.15)


def test_levels_are_apart():
    devices = Stragglers("temporary", level="device")
    assert not any(rounds(devices, 10, level="edge")) and all(rounds(devices, 10)[2:])
    both = Stragglers("temporary", level="both")
    assert rounds(both, 30, level="edge") != rounds(both, 30, level="device")


def test_the_seed_decides_and_the_order_of_asking_does_not():
    for kind in ("temporary", "permanent", "bursty"):
        one = rounds(Stragglers(kind, share=0.4), 30)
        assert one == rounds(Stragglers(kind, share=0.4), 30)
        assert one != rounds(Stragglers(kind, share=0.4), 30, seed=1)
        backwards = Stragglers(kind, share=0.4).away("device", 2, FIVE[::-1], 30, 3, Seeds(0))
        assert kind == "temporary" or kind == "permanent" or backwards == one[-1]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (dict(kind="slow"), "kind is one of none, temporary, permanent, bursty"),
        (dict(level="cloud"), "level is one of device, edge, both"),
        (dict(share=1.5), r"share must lie in \[0, 1\], got 1.5"),
        (dict(burst=0.5), "burst >= 1"),
        (dict(kind="bursty", share=0.9, burst=2.0), "raise stragglers.burst above 9"),
    ],
)
def test_what_it_refuses(keys, says):
    with pytest.raises(ConfigError, match=says):
        Stragglers(**keys)
