"""Trimmed mean by hand: count, fraction, refusals."""

import pytest
import torch

from defenses.trimmed_mean import TrimmedMean
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError, ToleranceError

COLUMN = torch.tensor([[9.0], [1.0], [2.0], [-50.0], [6.0]])


def test_one_off_each_end():
    """-50 and 9 fall: (1 + 2 + 6) / 3 = 3."""
    assert TrimmedMean(1)(COLUMN).vector.item() == 3


def test_the_context_knows_f_the_argument_wins():
    assert TrimmedMean()(COLUMN, Context(byzantine_count=2)).vector.item() == 2
    assert TrimmedMean(1)(COLUMN, Context(byzantine_count=2)).vector.item() == 3


def test_a_fraction_is_rounded_down():
    """int(0.39 · 5) = 1."""
    decided = TrimmedMean(fraction=0.39)(COLUMN)
    assert decided.vector.item() == 3 and decided.notes["trim"] == 1


def test_refusals():
    with pytest.raises(ConfigError, match="How many clients may lie is not known"):
        TrimmedMean()(COLUMN)
    with pytest.raises(ToleranceError, match="needs at least 7 clients, got 5"):
        TrimmedMean(3)(COLUMN)
    with pytest.raises(ToleranceError, match="lower byzantine_count to 2"):
        TrimmedMean()(COLUMN, Context(byzantine_count=3))
    with pytest.raises(ConfigError, match=r"below 0\.5, or null, got 0\.5"):
        TrimmedMean(fraction=0.5)
    with pytest.raises(ConfigError, match="null where fraction is given"):
        TrimmedMean(trim=1, fraction=0.1)
    with pytest.raises(ConfigError, match="whole number"):
        TrimmedMean(trim=-1)
