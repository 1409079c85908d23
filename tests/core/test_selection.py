"""The selection kernel against sorting, against pencil and paper, and at its edges."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedalign.core.selection import (
    LARGEST_NETWORK,
    mean_around_median,
    median,
    trimmed_mean,
)


def rows(n, d, seed=0, dtype=torch.float32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def nearest_by_sorting(x, keep):
    """The window of `keep` sorted values with the smallest reach, lowest first."""
    y = np.sort(x.double().numpy(), axis=0)
    middle = np.median(x.double().numpy(), axis=0)
    reach = np.stack(
        [np.maximum(middle - y[i], y[i + keep - 1] - middle) for i in range(len(y) - keep + 1)]
    )
    best = reach.argmin(axis=0)
    columns = zip(y.T, best, strict=True)
    return torch.tensor(np.array([column[b : b + keep].mean() for column, b in columns]))


def test_by_hand():
    """Column (5, 1, 9, 2): sorted 1 2 5 9. Median (2 + 5) / 2 = 3.5. Without ends (2 + 5) / 2.
    Nearest 3.5 are 2 and 5 (1.5 each), then 1 (2.5): (1 + 2 + 5) / 3 = 8/3."""
    x = torch.tensor([[5.0], [1.0], [9.0], [2.0]], dtype=torch.float64)
    assert median(x).item() == 3.5
    assert trimmed_mean(x, 1).item() == 3.5
    assert mean_around_median(x, 3).item() == pytest.approx(8 / 3)
    assert mean_around_median(x, 2).item() == 3.5


def test_a_tie_takes_the_lower_value():
    """Column (0, 1, 2): 0 and 2 are equally near the median 1; the lower window is (0, 1)."""
    assert mean_around_median(torch.tensor([[2.0], [0.0], [1.0]]), 2).item() == 0.5


SIZES = [1, 2, 3, 4, 7, 12, 20, 33, 64, 100, LARGEST_NETWORK, LARGEST_NETWORK + 1, 200]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_order_statistics_equal_sorting(n, dtype):
    """Exact for the median (numpy computes it in the same dtype); means in float64."""
    x = rows(n, 257, seed=n, dtype=dtype)
    ordered = x.double().sort(dim=0).values
    assert torch.equal(median(x), torch.from_numpy(np.median(x.numpy(), axis=0)))
    for trim in {0, (n - 1) // 4, (n - 1) // 2}:
        expected = ordered[trim : n - trim].mean(dim=0).to(dtype)
        assert torch.allclose(trimmed_mean(x, trim), expected, rtol=2e-7, atol=1e-9)


@pytest.mark.parametrize("n", SIZES)
def test_mean_around_the_median_equals_the_window_search(n):
    x = rows(n, 60, seed=n, dtype=torch.float64)
    for keep in {1, max(1, n // 4), max(1, n // 2), max(1, n - n // 5), n}:
        found = mean_around_median(x, keep)
        assert torch.allclose(found, nearest_by_sorting(x, keep), rtol=0, atol=1e-12)


@given(
    x=arrays(
        np.float32,
        st.tuples(st.integers(1, 24), st.integers(1, 4)),
        elements=st.sampled_from([-3.0, -1.0, 0.0, 0.5, 1.0, 2.0, 1e6, -1e30, 1e30]),
    ),
    data=st.data(),
)
@settings(max_examples=100, deadline=None)
def test_ties_and_outliers(x, data):
    """Few distinct values, so nearly every column has ties; 1e30 must not swallow the others."""
    x = torch.from_numpy(x)
    n = len(x)
    ordered = x.double().sort(dim=0).values
    trim = data.draw(st.integers(0, (n - 1) // 2))
    kept = ordered[trim : n - trim]
    scale = kept.abs().max(dim=0).values
    mean = trimmed_mean(x, trim).double()
    assert bool(((mean - kept.mean(dim=0)).abs() <= 1e-6 * scale).all())
    low, high = kept.min(dim=0).values, kept.max(dim=0).values
    assert bool(((low <= mean) & (mean <= high)).all())
    assert torch.equal(
        median(x).double(), (ordered[(n - 1) // 2] / 2 + ordered[n // 2] / 2).float()
    )
    keep = data.draw(st.integers(1, n))
    around = mean_around_median(x, keep).double()
    assert bool(((ordered[0] <= around) & (around <= ordered[-1])).all())


def test_an_outlier_outside_the_window_leaves_no_trace():
    """Prefix sums from one end would hold -1e30 and lose the rest: (1 + 2 + 3 + 4) / 4 = 2.5."""
    x = torch.tensor([[-1e30], [1.0], [2.0], [3.0], [4.0], [1e30]])
    assert mean_around_median(x, 4).item() == 2.5
    assert trimmed_mean(x, 1).item() == 2.5


@pytest.mark.parametrize("n", [1, 2, 5, 20, 100, 150])
@pytest.mark.parametrize("value", [0.1, 1e30, -3.0e38])
def test_equal_rows_give_that_row_to_the_last_bit(n, value):
    x = torch.full((n, 3), value)
    for result in (median(x), trimmed_mean(x, (n - 1) // 3), mean_around_median(x, n - n // 4)):
        assert torch.equal(result, x[0])


@pytest.mark.parametrize("n", [5, 20, LARGEST_NETWORK + 6])
def test_every_column_is_answered(n):
    """Several chunks, the last of one column; rows may be a strided view."""
    x = rows(n, 2_048 * 2 + 1)
    assert torch.equal(median(x), torch.from_numpy(np.median(x.numpy(), axis=0)))
    strided = rows(n, 200).T.contiguous().T
    assert torch.equal(median(strided), torch.from_numpy(np.median(strided.numpy(), axis=0)))


@pytest.mark.parametrize("n", [20, 100])
def test_order_of_clients_does_not_matter(n):
    x = rows(n, 100, dtype=torch.float64)
    mixed = x[torch.randperm(n, generator=torch.Generator().manual_seed(3))]
    assert torch.equal(median(x), median(mixed))
    assert torch.allclose(trimmed_mean(x, n // 5), trimmed_mean(mixed, n // 5), atol=1e-14)
    assert torch.allclose(mean_around_median(x, n // 2), mean_around_median(mixed, n // 2))


def test_input_is_not_touched():
    x = rows(9, 50)
    before = x.clone()
    median(x), trimmed_mean(x, 2), mean_around_median(x, 5)
    assert torch.equal(x, before)
