"""Signed flips: exact identities, and the longest prefix without a full sort."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.faker._flip import flip


def by_sorting(w, tau):
    """Number of flips by a full sort."""
    energies = w.double().square().sort().values.cumsum(0)
    return int((energies <= (1 - tau) * float(energies[-1]) / 2).sum())


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(0, 10**6), st.floats(-1, 1), st.booleans())
def test_identities(columns, seed, tau, double):
    """Norm bitwise equal, cos = 1 - 2 phi >= tau, |w' - w|^2 = 4 phi E, Delta = 2 |A|."""
    w = torch.randn(columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    w = w if double else w.float()
    crafted = flip(w, tau)
    assert crafted.dtype == w.dtype and torch.equal(crafted.abs(), w.abs())
    a, b = w.double(), crafted.double()
    energy, flipped = float(a.square().sum()), a != b
    phi = float(a[flipped].square().sum()) / energy
    assert float(a @ b) / energy == pytest.approx(1 - 2 * phi, abs=1e-9)
    assert float(a @ b) / energy >= tau - 1e-9
    assert float((a - b).square().sum()) == pytest.approx(4 * phi * energy, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 2000), st.integers(0, 10**6), st.floats(-0.9, 0.9))
def test_the_prefix_is_the_smallest_weights_and_maximal(columns, seed, tau):
    w = torch.randn(columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    flipped = flip(w, tau) != w
    assert int(flipped.sum()) == by_sorting(w, tau)
    if flipped.any() and not flipped.all():
        assert w[flipped].abs().max() <= w[~flipped].abs().min()
        more = w[flipped].square().sum() + w[~flipped].abs().min().square()
        assert float(more) > (1 - tau) / 2 * float(w.square().sum()) * (1 - 1e-12)


def test_by_hand():
    """w = (3, -1, 2, .5), E = 14.25, tau = .5: budget 3.5625 takes .25 and 1, not 4."""
    assert flip(torch.tensor([3.0, -1.0, 2.0, 0.5]), 0.5).tolist() == [3.0, 1.0, 2.0, -0.5]


def test_gaussian_weights_flip_85_percent_at_a_cosine_of_a_tenth():
    w = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    assert float((flip(w, 0.1) != w).double().mean()) == pytest.approx(0.85, abs=0.01)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15])
def test_bins_do_not_depend_on_the_scale(scale):
    w = torch.randn(5000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.equal(flip(w * scale, 0.3) != w * scale, flip(w, 0.3) != w)


def test_extremes_zeros_and_ties():
    w = torch.tensor([1.0, -2.0, 0.0])
    assert flip(w, 1.0).tolist() == [1.0, -2.0, 0.0]
    assert flip(w, -1.0).tolist() == [-1.0, 2.0, 0.0]
    assert flip(torch.zeros(4), 0.5).tolist() == [0.0] * 4
    assert flip(torch.ones(4), 0.5).tolist() == [-1.0, 1.0, 1.0, 1.0]  # lowest index first
    assert flip(torch.tensor([2.0]), 0.5).tolist() == [2.0]


def test_frozen_energy_enlarges_the_budget():
    """(1 - .5)/2 * (4 + 12) = 4 pays for all four ones; without it only one of them flips."""
    assert flip(torch.ones(4), 0.5, frozen=12.0).tolist() == [-1.0] * 4
