"""Bulyan by hand, and how its two selections differ."""

import pytest
import torch

from defenses.bulyan import Bulyan
from fedalign.core.errors import ConfigError, ToleranceError


def test_select_then_average_around_the_median():
    """f = 1, n = 7, theta = 5: rows -100 and 150 stay out. Of 0 1 2 3 4 the three nearest the
    median 2 are 1 2 3: 2."""
    x = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [-100.0], [150.0]])
    decided = Bulyan(1)(x)
    assert decided.vector.item() == 2
    assert decided.accepted.tolist() == [True] * 5 + [False] * 2
    assert decided.coefficients is None


def test_the_last_choice_may_be_an_outlier_and_the_second_stage_absorbs_it():
    """The last Krum sees 4 (or another), 100, 110 with k = 1: the pair at distance 10 wins, so an
    outlier is selected. Around the median of 0 1 2 3 100 the three nearest are still 1 2 3."""
    x = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [100.0], [110.0]])
    decided = Bulyan(1)(x)
    assert decided.accepted[5] and int(decided.accepted.sum()) == 5
    assert decided.vector.item() == 2


def test_the_two_selections_mostly_differ():
    """Specification 3.2: the outputs coincide in about 15 % of trials at n = 12, f = 2."""
    same = 0
    for seed in range(100):
        x = torch.randn(12, 10, generator=torch.Generator().manual_seed(seed))
        same += torch.equal(Bulyan(2)(x).vector, Bulyan(2, selection="oneshot")(x).vector)
    assert 3 <= same <= 40


def test_refusals():
    with pytest.raises(ToleranceError, match="Bulyan with f=2 needs at least 11 clients, got 10"):
        Bulyan(2)(torch.ones(10, 1))
    with pytest.raises(ConfigError, match="'iterative' or 'oneshot', got 'legacy'"):
        Bulyan(selection="legacy")
