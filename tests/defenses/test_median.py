"""Median by hand."""

import pytest
import torch

from defenses.median import Median
from fedalign.core.contracts import Context
from fedalign.core.errors import ToleranceError


def test_odd_and_even():
    """Columns (0, 5, 1) and (2, 9, 4): 1 and 4. With a fourth row (3, 3): (1+3)/2, (3+4)/2."""
    x = torch.tensor([[0.0, 2.0], [5.0, 9.0], [1.0, 4.0], [3.0, 3.0]])
    assert Median()(x[:3]).vector.tolist() == [1, 4]
    assert Median()(x).vector.tolist() == [2, 3.5]
    assert Median()(x).accepted.all() and Median()(x).coefficients is None


def test_half_of_the_clients_is_too_many():
    with pytest.raises(ToleranceError, match="lower byzantine_count to 1 or raise clients"):
        Median()(torch.ones(4, 1), Context(byzantine_count=2))
