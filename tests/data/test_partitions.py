"""Partitions: disjoint, complete, and of the promised shape."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from fedalign.data.partition.classes import Classes
from fedalign.data.partition.dirichlet import Dirichlet
from fedalign.data.partition.iid import Iid
from fedalign.data.partition.lognormal import LogNormal
from fedalign.data.partition.quantity import Quantity

LABELS = np.repeat(np.arange(10), 130)
ALL = [Iid(), Dirichlet(alpha=1.0), Classes(per_client=5), Quantity(), LogNormal()]


@pytest.mark.parametrize("partition", ALL, ids=lambda p: type(p).__name__)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), clients=st.integers(2, 20))
def test_every_sample_has_exactly_one_owner(partition, seed, clients):
    parts = partition(LABELS, clients, Seeds(seed).at("partition"))
    assert len(parts) == clients
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(LABELS)))


@pytest.mark.parametrize("partition", ALL, ids=lambda p: type(p).__name__)
def test_more_clients_than_samples_is_refused_with_both_numbers(partition):
    with pytest.raises(ConfigError, match=r"need 2\d+ samples, the data set has 20"):
        partition(LABELS[:20], 25, Seeds(0).at("partition"))


def test_iid_sizes_differ_by_at_most_one():
    sizes = {len(part) for part in Iid()(LABELS[:1000], 7, Seeds(0).at("partition"))}
    assert sizes == {142, 143}


def test_classes_gives_each_client_exactly_that_many_and_each_class_a_holder():
    parts = Classes(per_client=5)(LABELS, 20, Seeds(3).at("partition"))
    held = [set(LABELS[part]) for part in parts]
    assert {len(h) for h in held} == {5}
    holders = [sum(c in h for h in held) for c in range(10)]
    assert max(holders) - min(holders) <= 1


def test_dirichlet_skews_more_the_smaller_alpha_is():
    def skew(alpha):
        parts = Dirichlet(alpha, min_samples=1)(LABELS, 10, Seeds(0).at("partition"))
        return np.mean([np.bincount(LABELS[p], minlength=10).max() / len(p) for p in parts])

    assert skew(0.1) > skew(1.0) > skew(100.0)
    assert skew(1000.0) < 0.15


def test_dirichlet_keeps_its_minimum_or_says_why_not():
    parts = Dirichlet(0.5, min_samples=10)(LABELS, 20, Seeds(0).at("partition"))
    assert min(map(len, parts)) >= 10
    with pytest.raises(ConfigError, match=r"raise partition\.alpha"):
        Dirichlet(0.01, min_samples=60, tries=3)(LABELS, 20, Seeds(0).at("partition"))


def test_quantity_skews_sizes_and_not_classes():
    parts = Quantity(alpha=0.3, min_samples=10)(LABELS, 10, Seeds(0).at("partition"))
    sizes = np.array([len(part) for part in parts])
    assert sizes.min() >= 10 and sizes.max() > 3 * np.median(sizes)
    biggest = np.bincount(LABELS[parts[sizes.argmax()]], minlength=10) / sizes.max()
    assert np.abs(biggest - 0.1).max() < 0.05


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Dirichlet(alpha=0), "alpha must be above 0, got 0"),
        (lambda: Quantity(alpha=-1), "alpha must be above 0, got -1"),
        (lambda: Classes(0)(LABELS, 5, Seeds(0).at("p")), "per_client must be 1 to 10"),
        (lambda: Classes(1)(LABELS, 5, Seeds(0).at("p")), "cannot hold 10 classes"),
    ],
)
def test_out_of_range_is_a_sentence(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


def test_lognormal_sizes_have_the_spread_that_was_asked_for():
    """log of what is dealt beyond the minimum has standard deviation sigma; sigma 0 deals evenly."""
    labels = np.zeros(2_000_000, dtype=int)
    parts = LogNormal(sigma=1.5, min_samples=1)(labels, 400, Seeds(0).at("partition"))
    spread = np.log([len(part) - 1 for part in parts]).std(ddof=1)
    assert abs(spread - 1.5) < 3.3 * 1.5 / np.sqrt(2 * 400)
    even = {len(part) for part in LogNormal(sigma=0.0)(LABELS, 13, Seeds(0).at("partition"))}
    assert even == {100}
    with pytest.raises(ConfigError, match=r"partition\.sigma must be 0 or more, got -1"):
        LogNormal(sigma=-1)
