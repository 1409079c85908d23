"""The compiled loops: every remainder of their blocks, and nothing loaded that is not used."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from fedalign.core import compiled
from fedalign.core.gram import gram
from fedalign.core.selection import LARGEST_NETWORK, mean_around_median, median, trimmed_mean
from fedalign.core.vectors import combine


def rows(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


@pytest.mark.parametrize("n", range(1, 10))
@pytest.mark.parametrize("d", [1, 15, 17, compiled.PIECE, compiled.PIECE + 1])
def test_products_of_every_tile_that_is_not_full(n, d):
    """Tiles are 4 x 4 and pieces 1024 columns; rows beyond n must not be counted twice."""
    x, origin = rows(n, d), rows(1, d, seed=1)[0]
    for about in (None, origin):
        total = np.zeros((12, 12))
        compiled.products(x, about, total)
        wide = x.astype(float) - (0 if about is None else about)
        upper = np.triu_indices(n)
        assert np.allclose(total[upper], (wide @ wide.T)[upper], rtol=0, atol=2e-6 * d + 1e-6)


def test_products_are_added_to_what_is_there():
    """Column pieces one after the other: 10 + (1·3 + 2·4) = 21."""
    total = np.full((4, 4), 10.0)
    compiled.products(np.array([[1, 2], [3, 4]], np.float32), None, total)
    assert total[0, 1] == 21.0


@pytest.mark.parametrize("n", [1, 7, 8, 9, 31])
@pytest.mark.parametrize("k", [1, 2, 4, 5])
@pytest.mark.parametrize("d", [1, 255, 257, 12_289])
def test_combinations_of_every_remainder(n, k, d):
    x, c = rows(n, d), np.random.default_rng(1).standard_normal((k, n))
    found = combine(torch.from_numpy(c), torch.from_numpy(x)).numpy()
    assert np.allclose(found, c @ x.astype(float), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
def test_sums_beyond_float32_come_back(k):
    """3e38 + 3e38 - 3e38: in float32 the first sum would be infinite."""
    x = torch.tensor([[3e38], [3e38], [3e38]])
    found = combine(torch.tensor([[1.0, 1.0, -1.0]] * k), x)
    assert torch.equal(found, x[:1].repeat(k, 1))


def test_the_gram_of_values_at_the_end_of_float32():
    """(3e38)² = 9e76 overflows float32 products; done again in float64 it does not."""
    products = gram(torch.tensor([[3e38, 0.0], [1.0, 1.0], [-3e38, 1.0]]))
    big = float(np.float32(3e38))
    assert products[0].tolist() == pytest.approx([big**2, big, -(big**2)], rel=1e-15)
    assert products[1, 1] == 2.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, 127, 128, 129, 300])
def test_order_statistics_of_every_remainder(d, dtype):
    x = torch.from_numpy(rows(9, d)).to(dtype)
    assert torch.equal(median(x), x.median(dim=0).values)
    ordered = x.double().sort(dim=0).values
    assert torch.allclose(trimmed_mean(x, 2).double(), ordered[2:7].mean(dim=0), atol=1e-7)


@pytest.mark.parametrize("n", [12, LARGEST_NETWORK + 10])
def test_chosen_rows_need_no_copy(n):
    x = torch.from_numpy(rows(n, 150))
    chosen = list(range(0, n, 2)) if n < 100 else list(range(1, n))
    keep = len(chosen) - len(chosen) // 3
    assert torch.equal(mean_around_median(x, keep, chosen), mean_around_median(x[chosen], keep))


def test_the_network_and_the_sort_agree_to_the_last_bit():
    """More rows than the largest network go through a sort; here both ways on the same rows."""
    from fedalign.core.selection import _by_network, _by_sorting

    x = torch.from_numpy(rows(33, 500)).double()
    x[:5] *= 1e6
    core, free = range(10, 14), range(4, 10)  # keep 10: pairs 4..9 with 14..19
    network = _by_network(x, range(33), core, free, 10)
    assert torch.allclose(network, _by_sorting(x, core, free, 10), rtol=1e-15, atol=1e-15)


def test_numba_is_not_loaded_before_it_is_needed():
    code = (
        "import sys, fedalign.core.contracts, fedalign.core.gram, fedalign.core.selection,"
        " fedalign.core.moments; print('numba' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "False", answer.stdout + answer.stderr


def test_no_columns_at_all():
    x = torch.zeros(5, 0)
    for answer in (median(x), combine(torch.ones(5), x), mean_around_median(x, 3)):
        assert answer.shape == (0,)
