"""Linear combinations: float64 sums, nothing read that is not wanted."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedalign.core.vectors import combine


def rows(n, d, seed=0, dtype=torch.float32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_by_hand():
    """2 (1, 2) - 1 (3, 5) = (-1, -1)."""
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    assert combine(torch.tensor([2.0, -1.0]), x).tolist() == [-1, -1]
    both = combine(torch.tensor([[2.0, -1.0], [0.0, 1.0]]), x)
    assert both.tolist() == [[-1, -1], [3, 5]]


@given(
    n=st.integers(1, 40),
    d=st.integers(1, 200),
    seed=st.integers(0, 99),
    wide=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_float64_product(n, d, seed, wide, dtype):
    x = rows(n, d, seed).to(dtype)
    c = rows(3, n, seed + 1, torch.float64)
    c[:, ::3] = 0
    c = c if wide else c[0]
    found, exact = combine(c, x), c @ x.double()
    assert found.dtype == dtype
    assert found.shape == exact.shape
    tolerance = {torch.float64: 1e-13, torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
    assert torch.allclose(found.double(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_with_coefficient_zero_are_not_read(dtype, bad):
    """0 · NaN would be NaN: the row is left out, also where two lines leave it out."""
    x = torch.tensor([[1.0], [bad], [3.0]], dtype=dtype)
    assert combine(torch.tensor([0.5, 0.0, 0.5]), x).item() == 2
    assert combine(torch.tensor([[0.5, 0, 0.5], [1, 0, 0]]), x).tolist() == [[2], [1]]


def test_nothing_wanted_is_zero():
    assert combine(torch.zeros(3), rows(3, 5)).tolist() == [0] * 5


def test_sums_are_float64():
    """In float32, 2^24 + 1 + 1 = 2^24; in float64 it is 2^24 + 2, a float32 number."""
    x = torch.tensor([[2.0**24], [1.0], [1.0]])
    assert combine(torch.ones(3), x).item() == 2**24 + 2


@pytest.mark.parametrize("n", [3, 7, 20, 100])
def test_the_mean_of_equal_rows_is_that_row(n):
    x = rows(1, 500).repeat(n, 1)
    assert torch.equal(combine(torch.full((n,), 1 / n, dtype=torch.float64), x), x[0])


def test_every_chunk_and_every_run_of_rows():
    """40 001 columns are three chunks; rows 1-2, 4 and 6-8 are three runs."""
    x = rows(9, 40_001)
    c = torch.tensor([0, 1.0, 2, 0, 3, 0, 4, 5, 6], dtype=torch.float64)
    assert torch.allclose(combine(c, x).double(), c @ x.double(), rtol=1e-6, atol=1e-6)


def test_more_rows_than_a_tile():
    """70 rows are three tiles of at most 32; every third row is left out."""
    x, c = rows(70, 3000), rows(5, 70, 1, torch.float64)
    c[:, ::3] = 0
    assert torch.allclose(combine(c, x).double(), c @ x.double(), rtol=1e-5, atol=1e-6)


def test_float64_rows_are_added_in_their_order():
    """1e16 + 1 = 1e16, then - 1e16 gives 0, then + 1 gives 1; another order gives 2."""
    x = torch.tensor([[1e16], [1.0], [-1e16], [1.0]], dtype=torch.float64)
    assert combine(torch.ones(4), x).item() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_do_not_change_a_bit(dtype):
    x, c = rows(43, 40_001, dtype=dtype), rows(4, 43, 1, torch.float64)
    try:
        torch.set_num_threads(1)
        one, line = combine(c, x), combine(c[0], x)
        torch.set_num_threads(3)
        assert torch.equal(combine(c, x), one)
        assert torch.equal(combine(c[0], x), line)
    finally:
        torch.set_num_threads(1)
