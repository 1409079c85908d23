"""The Gram kernel: exact for clones, finite at 1e30, insensitive to a common offset."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedalign.core.gram import centred_gram, gram, squared_distances


def rows(n, d, seed=0, dtype=torch.float32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def direct(x):
    """Squared distances by differences, in float64."""
    return (x.double()[:, None] - x.double()[None, :]).square().sum(dim=2)


def test_two_rows_by_hand():
    """<(1,2),(1,2)> = 5, <(1,2),(3,-1)> = 1, <(3,-1),(3,-1)> = 10; |difference|² = 4 + 9 = 13."""
    g = gram(torch.tensor([[1.0, 2.0], [3.0, -1.0]]))
    assert g.dtype == torch.float64
    assert g.tolist() == [[5, 1], [1, 10]]
    assert squared_distances(g).tolist() == [[0, 13], [13, 0]]


def test_origin_is_subtracted_from_every_row():
    """About (1, 1): rows (0,1) and (2,-2): products 1, -2, 8."""
    g = gram(torch.tensor([[1.0, 2.0], [3.0, -1.0]]), origin=torch.ones(2))
    assert g.tolist() == [[1, -2], [-2, 8]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("n", "d"),
    [(1, 1), (2, 1), (3, 5), (20, 4810), (7, 16_384), (7, 40_000), (48, 3000), (101, 50)],
)
def test_equals_the_float64_product(n, d, dtype):
    x = rows(n, d, dtype=dtype)
    exact = x.double() @ x.double().T
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    assert torch.allclose(gram(x), exact, rtol=0, atol=tolerance * float(exact.max()))


def test_blocks_are_stacked_in_order():
    x = rows(6, 40_000)
    assert torch.equal(gram(x[:2], x[2], x[3:]), gram(x))


@given(
    n=st.integers(2, 12),
    d=st.integers(1, 300),
    seed=st.integers(0, 999),
    copies=st.integers(1, 4),
    offset=st.sampled_from([0.0, 1.0, 1000.0]),
)
@settings(max_examples=60, deadline=None)
def test_clones_are_at_distance_exactly_zero(n, d, seed, copies, offset):
    x = rows(n, d, seed) + offset
    x = torch.cat([x, *[x[:1]] * copies])
    for products in (gram(x), centred_gram(x), gram(x.double())):
        squared = squared_distances(products)
        same = [0, *range(n, n + copies)]
        assert bool((squared[same][:, same] == 0).all())
        assert torch.equal(squared, squared.T)


def test_near_rows_are_not_merged():
    """One value of 5000 differs by 2^-10: the distance is not 0 but 2^-20, seen about row 0."""
    x = rows(1, 5000).repeat(2, 1)
    x[1, 7] = x[0, 7] + 2.0**-10
    true = float((x[1, 7].double() - x[0, 7].double()) ** 2)
    squared = squared_distances(gram(x, origin=x[0]))
    assert squared[0, 1].item() == pytest.approx(true, rel=1e-6)


@pytest.mark.parametrize("offset", [0.0, 30.0, 1e4])
def test_centred_distances_stand_a_common_offset(offset):
    """At offset 1e4 a float32 product is 1e8 per coordinate with an error of 6: distances of 2
    per coordinate would drown. About a central row only the rounding of the rows remains."""
    x = rows(9, 3000) + offset
    squared = squared_distances(centred_gram(x))
    assert torch.allclose(squared, direct(x), rtol=1e-5, atol=0)


def test_central_row_is_not_the_outlier():
    """Row 0 and 1 at 1e6 cannot become the origin of the seven others around 1000."""
    x = rows(9, 3000) + 1000
    x[:2] += 1e6
    squared = squared_distances(centred_gram(x))
    assert torch.allclose(squared[2:, 2:], direct(x[2:]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("size", [1e6, 1e19, 1e30])
def test_long_rows_neither_overflow_nor_spoil_the_others(size):
    x = rows(6, 2000)
    x[4:] *= size
    products = gram(x)
    assert bool(products.isfinite().all())
    assert torch.allclose(squared_distances(products)[:4, :4], direct(x[:4]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_do_not_change_a_bit(dtype):
    matrices = [
        rows(n, d, dtype=dtype) for n, d in ((17, 700), (23, 1024), (23, 9001), (100, 3005))
    ]
    try:
        torch.set_num_threads(1)
        one = [gram(x) for x in matrices]
        for threads in (2, 3, 8):
            torch.set_num_threads(threads)
            assert all(torch.equal(gram(x), g) for x, g in zip(matrices, one, strict=True))
    finally:
        torch.set_num_threads(1)


def test_float64_products_are_added_in_a_fixed_order():
    """Five products p0..p4: halves fold as p0 + p3, p1 + p4, p2; then p0 + p3 + p2, p1 + p4;
    then all. The sum of (1e16, 1, -1e16, 0, 1) in that order: ((1e16 + 0) - 1e16) + (1 + 1)."""
    x = torch.tensor([[1e16, 1.0, -1e16, 0.0, 1.0], [1.0] * 5], dtype=torch.float64)
    assert gram(x)[0, 1].item() == 2.0
