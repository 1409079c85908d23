"""The Sybil family: one norm, one distance, one cosine, prescribed mutual products."""

import numpy as np
import pytest

from attacks.faker._plane import direction
from attacks.faker._sums import Sums
from attacks.faker._sybil import family


@pytest.mark.parametrize("tau,angle", [(0.5, 0.8), (0.1, 0.0), (-0.3, 1.5)])
def test_equal_metrics_and_prescribed_products(tau, angle):
    """<w_s, w_t> = p^2 E + V^2 (cos^2 + sin^2 <z_s, z_t>), with <z_s, z_t> = 0 while there is room."""
    rng = np.random.default_rng(0)
    sums = Sums.of(rng.integers(1, 9, 12).astype(float), rng.uniform(0.1, 4, 12))
    v = np.sqrt(sums.total * (1 - tau**2))
    alphas = family(sums, tau, v, 6, angle, rng)
    for alpha in alphas:
        assert sums.norm(alpha) == pytest.approx(np.sqrt(sums.total), rel=1e-12)
        assert sums.cosine(alpha) == pytest.approx(tau, abs=1e-12)
        assert sums.distance(alpha) == pytest.approx(np.sqrt(2 * sums.total * (1 - tau)), rel=1e-12)
    inner = (alphas * sums.energies) @ alphas.T
    expected = tau**2 * sums.total + v**2 * np.cos(angle) ** 2
    assert inner[~np.eye(6, dtype=bool)] == pytest.approx(expected, rel=1e-9)


def test_more_sybils_than_room_still_share_the_metrics():
    rng = np.random.default_rng(1)
    sums = Sums.of(np.ones(4), rng.uniform(0.1, 4, 4))
    alphas = family(sums, 0.5, np.sqrt(0.75 * sums.total), 9, 0.8, rng)
    assert {round(sums.norm(a), 9) for a in alphas} == {round(np.sqrt(sums.total), 9)}
    assert {round(sums.cosine(a), 9) for a in alphas} == {0.5}


def test_without_a_third_dimension_all_are_the_cosine_solution():
    sums = Sums.of(np.ones(2), np.array([1.0, 4.0]))
    expected = 0.5 - 2 * direction(sums, sums.ratios)
    assert family(sums, 0.5, 2.0, 3, 0.8, np.random.default_rng(0)) == pytest.approx(
        np.tile(expected, (3, 1))
    )
