"""Every similarity of a scaled vector is a function of three sums per group."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.faker._groups import Groups
from attacks.faker._sums import Sums
from fedalign.core.errors import ConfigError
from fedalign.core.vectors import CHUNK, Layout


def sums_of(w, count, seed=0):
    w = torch.as_tensor(w, dtype=torch.float64)
    groups = Groups.permuted(len(w), count, np.random.default_rng(seed))
    return groups, Sums.of(groups.sizes(), groups.sums(w, w))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**6))
def test_three_metrics_from_the_sums_equal_the_direct_ones(columns, count, seed):
    rng, count = np.random.default_rng(seed), min(count, columns)
    w = torch.from_numpy(rng.standard_normal(columns))
    groups, sums = sums_of(w, count, seed)
    alpha = rng.uniform(-3, 3, count)
    scaled = groups.scale(alpha, w)
    cosine = float(scaled @ w / (scaled.norm() * w.norm()))
    assert sums.norm(alpha) == pytest.approx(float(scaled.norm()), rel=1e-9)
    assert sums.distance(alpha) == pytest.approx(float((scaled - w).norm()), rel=1e-9)
    assert sums.cosine(alpha) == pytest.approx(cosine, abs=1e-9)
    per_group = groups.scale(alpha, torch.ones_like(w)) - 1
    assert sums.difference(alpha) == pytest.approx(float(per_group.abs().sum()), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(0, 10**6))
def test_cross_sums_give_product_and_distance_to_any_reference(columns, seed):
    """<w', r> = sum c alpha and |w' - r|^2 = sum e alpha^2 - 2 sum c alpha + |r|^2."""
    rng = np.random.default_rng(seed)
    w, r = torch.from_numpy(rng.standard_normal((2, columns)))
    count = 1 + columns // 3
    groups = Groups.permuted(columns, count, rng)
    e, c, alpha = groups.sums(w, w), groups.sums(w, r), rng.uniform(-2, 2, count)
    scaled = groups.scale(alpha, w)
    assert float((c * alpha).sum()) == pytest.approx(float(scaled @ r), abs=1e-9)
    direct = float((scaled - r).square().sum())
    assert (e * alpha**2).sum() - 2 * (c * alpha).sum() + float(r @ r) == pytest.approx(direct)


def test_the_constants_of_the_oracle_vector():
    """w = (3, -1, 2, .5, 1, -2): E = 9+1+4+.25+1+4; H = 1/9+1+1/4+4+1+1/4; K = H - 36/E."""
    _, sums = sums_of([3, -1, 2, 0.5, 1, -2], 6)
    assert sums.total == 19.25
    assert sums.curvature == pytest.approx(6.611111, abs=1e-6)
    assert sums.spread == pytest.approx(4.740981, abs=1e-6)
    assert sums.number == 6


def test_groups_without_energy_do_not_count():
    _, sums = sums_of([3.0, 0.0, 4.0], 3)
    assert sums.free.tolist() == [True, False, True]
    assert sums.number == 2 and sums.total == 25
    assert sums.complete(np.array([5.0, 6.0])).tolist() == [5.0, 1.0, 6.0]


def test_frozen_energy_counts_in_norm_and_cosine_only():
    """alpha = -1 on energy 9, 16 stays: norm 5, distance 6, cosine (16 - 9) / 25."""
    sums = Sums.of(np.ones(1), np.array([9.0]), frozen=16.0)
    alpha = np.array([-1.0])
    assert (sums.norm(alpha), sums.distance(alpha), sums.cosine(alpha)) == (5.0, 6.0, 0.28)


@pytest.mark.parametrize("columns", [1, 7, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
@pytest.mark.parametrize("count", [1, 5, 64])
def test_permuted_groups_cover_everything_whatever_the_size(columns, count):
    if count > columns:
        with pytest.raises(ConfigError, match=f"groups={count} on {columns}.*from 1 to {columns}"):
            Groups.permuted(columns, count, np.random.default_rng(0))
        return
    groups = Groups.permuted(columns, count, np.random.default_rng(0))
    ones = torch.ones(columns)
    assert groups.sizes().sum() == columns
    assert groups.sums(ones, ones).tolist() == groups.sizes().tolist()
    assert groups.sizes().max() - groups.sizes().min() <= 1 + columns // CHUNK
    scaled = groups.scale(np.arange(count) + 1.0, ones)
    assert torch.bincount(scaled.long())[1:].tolist() == groups.sizes().tolist()


def test_more_groups_than_a_block_still_work():
    columns, count = 3 * CHUNK, CHUNK + 10
    w = torch.randn(columns, generator=torch.Generator().manual_seed(0))
    groups = Groups.permuted(columns, count, np.random.default_rng(0))
    assert groups.sizes().min() >= 2
    assert groups.sums(w, w).sum() == pytest.approx(float(w.double().square().sum()), rel=1e-12)
    assert torch.equal(groups.scale(np.full(count, 2.0), w), 2 * w)


def test_one_group_per_parameter_is_in_order():
    groups = Groups.permuted(4, 4, np.random.default_rng(0))
    assert groups.scale(np.array([1.0, 2, 3, 4]), torch.ones(4)).tolist() == [1, 2, 3, 4]


def test_contiguous_groups_are_runs_and_tensor_groups_follow_the_layout():
    assert Groups.contiguous(7, 3).labels.tolist() == [0, 0, 0, 1, 1, 2, 2]
    layout = Layout.of({"a": (2,), "b": (1, 3)})
    assert Groups.tensors(layout).labels.tolist() == [0, 0, 1, 1, 1]


def test_same_generator_same_groups():
    first, second = (Groups.permuted(100, 8, np.random.default_rng(3)).labels for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, Groups.permuted(100, 8, np.random.default_rng(4)).labels)
