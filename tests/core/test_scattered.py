"""Combinations of vectors from anywhere equal those of one matrix."""

import pytest
import torch

from fedalign.core.scattered import CHUNK, combine_scattered
from fedalign.core.vectors import combine


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (3, 7), (8, 100), (9, 2 * CHUNK + 5), (20, 1000)])
def test_it_is_the_linear_combination(dtype, n, d):
    rng = torch.Generator().manual_seed(n)
    rows = torch.randn(n, d, generator=rng, dtype=torch.float64).to(dtype)
    weights = torch.randn(n, generator=rng, dtype=torch.float64)
    found = combine_scattered(
        [(float(c), row.clone()) for c, row in zip(weights, rows, strict=True)]
    )
    exact = weights @ rows.double()
    assert found.dtype == dtype
    bits = {torch.float32: 1e-6, torch.float64: 1e-13, torch.bfloat16: 1e-2}[dtype]
    assert torch.allclose(found.double(), exact, rtol=bits, atol=bits)


def test_one_matrix_gives_the_same_bits_as_its_own_kernel():
    rows, weights = torch.randn(20, 3 * CHUNK + 1), torch.rand(20, dtype=torch.float64)
    scattered = combine_scattered(list(zip(weights.tolist(), rows, strict=True)))
    assert torch.equal(scattered, combine(weights, rows))


def test_terms_with_coefficient_0_are_not_read():
    rows = torch.tensor([[1.0, 2.0], [float("nan"), float("inf")]])
    assert combine_scattered([(2.0, rows[0]), (0.0, rows[1])]).tolist() == [2.0, 4.0]
    assert combine_scattered([(0.0, rows[1])]).tolist() == [0.0, 0.0]
