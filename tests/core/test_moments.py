"""Squared norms and inner products in float64, whatever the rows."""

import numpy as np
import pytest
import torch

from fedalign.core.moments import moments


def test_by_hand():
    """Rows (1, 2), (3, -1) shifted by (1, 1): (2, 3), (4, 0). With (1, 2): 8 and 4."""
    rows = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    squares, inner = moments(rows, torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0]))
    assert squares.tolist() == [13.0, 16.0] and inner.tolist() == [8.0, 4.0]
    assert squares.dtype == inner.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_chunks_and_the_input_stays(dtype):
    random = np.random.default_rng(0)
    rows = torch.from_numpy(random.normal(size=(3, 40_000))).to(dtype)
    shift, reference = rows[0] * 2, rows[1] - rows[2]
    before = rows.clone()
    squares, inner = moments(rows, reference, shift)
    shifted = rows.double() + shift.double()
    torch.testing.assert_close(squares, shifted.square().sum(dim=1), rtol=1e-6, atol=0)
    torch.testing.assert_close(inner, shifted @ reference.double(), rtol=1e-6, atol=1e-6)
    assert torch.equal(rows, before)


def test_long_and_absent():
    assert moments(torch.full((2, 4), 1e30))[0].tolist() == pytest.approx([4e60] * 2)
    assert moments(torch.ones(2, 4))[1].tolist() == [0.0, 0.0]
    assert moments(torch.zeros(1, 1))[0].tolist() == [0.0]
