"""Multi-Krum by hand."""

import pytest
import torch

from defenses.multi_krum import MultiKrum
from fedalign.core.errors import ConfigError, ToleranceError

POINTS = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0]])


def test_mean_of_the_best_scores():
    """f = 1: scores 5 2 2 5 113 (see Krum). Keep n - f = 4: (0 + 1 + 2 + 3) / 4 = 1.5."""
    decided = MultiKrum(1)(POINTS)
    assert decided.vector.item() == 1.5
    assert decided.accepted.tolist() == [True] * 4 + [False]
    assert decided.coefficients.tolist() == [0.25] * 4 + [0]


def test_ties_go_to_low_indices():
    """Of the tied scores 5 and 5 the row at 0 is kept: (1 + 2 + 0) / 3 = 1."""
    assert MultiKrum(1, keep=3)(POINTS).vector.item() == 1
    assert MultiKrum(1, keep=1)(POINTS).vector.item() == 1


def test_refusals():
    with pytest.raises(ConfigError, match="keep must be 1 or more, or null, got 0"):
        MultiKrum(keep=0)
    with pytest.raises(ToleranceError, match="at least 6 clients, got 5"):
        MultiKrum(1, keep=6)(POINTS)
