"""Meamed by hand."""

import pytest
import torch

from defenses.meamed import Meamed
from fedalign.core.contracts import Context
from fedalign.core.errors import ToleranceError


def test_nearest_the_median():
    """Column 0 1 2 4 100, f = 2: median 2; nearest three are 2, 1 (1 off) and, 0 and 4 being
    equally near, the smaller: (0 + 1 + 2) / 3 = 1. The trimmed mean would keep 2 alone."""
    x = torch.tensor([[0.0], [1.0], [2.0], [4.0], [100.0]])
    assert Meamed(2)(x).vector.item() == 1
    assert Meamed()(x, Context(byzantine_count=1)).vector.item() == pytest.approx(7 / 4)


def test_half_of_the_clients_is_too_many():
    with pytest.raises(ToleranceError, match="Meamed with f=2 needs at least 5 clients, got 4"):
        Meamed(2)(torch.ones(4, 1))
