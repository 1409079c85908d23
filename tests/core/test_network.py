"""The pruned sorting network: it sorts, and it is as small as it should be."""

from itertools import product

import numpy as np
import pytest

from fedalign.core.network import Role, network


def middle(n):
    return tuple(Role.READ if i in ((n - 1) // 2, n // 2) else Role.UNREAD for i in range(n))


def patterns(n):
    """Every column of n zeros and ones."""
    return np.array(list(product((0, 1), repeat=n))).T


def run(roles, x):
    """Comparator after comparator; what is not wanted is spoilt."""
    wires = list(x)
    for low, high, wanted in network(roles):
        smaller, larger = np.minimum(wires[low], wires[high]), np.maximum(wires[low], wires[high])
        wires[low] = smaller if wanted & 1 else np.full_like(smaller, -7)
        wires[high] = larger if wanted & 2 else np.full_like(larger, -7)
    return np.array(wires)


@pytest.mark.parametrize("n", range(1, 12))
def test_sorts_every_pattern_of_zeros_and_ones(n):
    """The 0-1 principle (Knuth 5.3.4, Theorem Z): a network that sorts these sorts everything."""
    x = patterns(n)
    assert np.array_equal(run((Role.READ,) * n, x), np.sort(x, axis=0))


@pytest.mark.parametrize("n", range(1, 11))
def test_pruned_wires_on_every_pattern(n):
    """Middle wires are right; summed wires hold the right values in some order."""
    x = patterns(n)
    ordered = np.sort(x, axis=0)
    wires = run(middle(n), x)
    for i in {(n - 1) // 2, n // 2}:
        assert np.array_equal(wires[i], ordered[i])
    for cut in range((n + 1) // 2):
        kept = range(cut, n - cut)
        wires = run(tuple(Role.SUMMED if i in kept else Role.UNREAD for i in range(n)), x)
        assert np.array_equal(wires[cut : n - cut].sum(axis=0), ordered[cut : n - cut].sum(axis=0))


def test_sizes_of_batchers_network():
    """Knuth 5.3.4 lists 3, 5, 9, 12, 16, 19 comparators for n = 3 .. 8; 103 and 1104 are Batcher's
    for 20 and 100, of which a median needs 84 and 898."""
    full = [len(network((Role.READ,) * n)) for n in (2, 3, 4, 5, 6, 7, 8, 20, 100)]
    assert full == [1, 3, 5, 9, 12, 16, 19, 103, 1104]
    assert [len(network(middle(n))) for n in (20, 100)] == [84, 898]


def test_two_middle_wires_that_are_added_need_not_be_told_apart():
    roles = tuple(Role.SUMMED if i in (9, 10) else Role.UNREAD for i in range(20))
    assert len(network(roles)) == 83


def test_a_sum_of_everything_needs_no_comparator():
    assert network((Role.SUMMED,) * 20).shape == (0, 3)


def test_a_plan_is_made_once_and_cannot_be_changed():
    plan = network(middle(9))
    assert network(middle(9)) is plan
    with pytest.raises(ValueError, match="read-only"):
        plan[0, 0] = 5
