"""Geometric median: known points, monotone descent, starts that agree."""

from itertools import pairwise

import pytest
import torch

from defenses.geometric_median import GeometricMedian
from fedalign.core.errors import ConfigError


def objective(z, x):
    return float((x - z).norm(dim=1).sum())


def test_on_a_line_it_is_the_median():
    """Points 0 1 2 3 100: the sum of distances is least at 2; the mean is 21.2."""
    x = torch.tensor([[0.0], [1.0], [2.0], [3.0], [100.0]], dtype=torch.float64)
    assert GeometricMedian(iterations=500)(x).vector.item() == pytest.approx(2, abs=1e-4)


def test_corners_of_a_square():
    """By symmetry the centre (1, 1), whatever the start."""
    x = torch.tensor([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]], dtype=torch.float64)
    for start in ("crowd", "mean", "zero"):
        vector = GeometricMedian(start=start, iterations=300)(x).vector
        assert vector.tolist() == pytest.approx([1, 1], abs=1e-5)


def test_one_step_from_the_mean_by_hand():
    """Points 0 and 0 and 3 from the mean 1: weights 1, 1, 1/2; z = (3 · 1/2) / (5/2) = 0.6."""
    x = torch.tensor([[0.0], [0.0], [3.0]], dtype=torch.float64)
    decided = GeometricMedian(start="mean", iterations=1)(x)
    assert decided.vector.item() == pytest.approx(0.6)
    assert decided.coefficients.tolist() == pytest.approx([0.4, 0.4, 0.2])
    assert decided.scores.tolist() == pytest.approx([0.6, 0.6, 2.4])


def test_every_step_lowers_the_sum_of_distances():
    """Weiszfeld's descent (Pillutla et al., Proposition 2)."""
    x = torch.randn(15, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:4] += 20
    values = [objective(GeometricMedian(iterations=k)(x).vector, x) for k in range(1, 20)]
    assert all(later <= sooner + 1e-9 for sooner, later in pairwise(values))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_direction_improves_it(dtype):
    x = torch.randn(20, 300, generator=torch.Generator().manual_seed(1), dtype=dtype)
    z = GeometricMedian(iterations=200)(x).vector
    best = objective(z.double(), x.double())
    for seed in range(10):
        step = torch.randn(300, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert objective(z.double() + 0.05 * step, x.double()) > best


def test_refusals():
    with pytest.raises(ConfigError, match="nu must be positive, got 0"):
        GeometricMedian(nu=0)
    with pytest.raises(ConfigError, match="iterations must be 1 or more, got 0"):
        GeometricMedian(iterations=0)
    with pytest.raises(ConfigError, match="'crowd' or 'mean' or 'zero', got 'median'"):
        GeometricMedian(start="median")
