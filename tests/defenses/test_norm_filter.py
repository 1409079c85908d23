"""Norm filter by hand: band, spaces, nobody left."""

import pytest
import torch

from defenses.norm_filter import NormFilter
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError


def line(*values):
    return torch.tensor(values)[:, None]


def test_the_band_around_the_median():
    """Lengths 1 9 10 10.9 12: M = 1.1 · 10 = 11, lower 8.8: 9, 10 and 10.9 stay."""
    decided = NormFilter(space="update")(line(1.0, -9.0, 10.0, 10.9, 12.0))
    assert decided.accepted.tolist() == [False, True, True, True, False]
    assert decided.vector.item() == pytest.approx((-9 + 10 + 10.9) / 3)
    assert decided.notes["upper"] == pytest.approx(11)
    assert decided.scores.tolist() == pytest.approx([1 / 11, 9 / 11, 10 / 11, 10.9 / 11, 12 / 11])


def test_both_ends_belong_to_the_band():
    decided = NormFilter(bound=10.0, lower=0.5, space="update")(line(5.0, 10.0, 4.999, 10.001))
    assert decided.accepted.tolist() == [True, True, False, False]


def test_on_models_short_updates_pass():
    """Model 100, updates -20 .. 2: models 80, 99, 100, 102; M = 1.1 · 99.5 = 109.45, lower 87.56:
    only 80 is out. As updates, lengths 20 1 0 2 leave nobody near 1.1 · 1.5."""
    x = line(-20.0, -1.0, 0.0, 2.0)
    decided = NormFilter()(x, Context(model=torch.tensor([100.0])))
    assert decided.accepted.tolist() == [False, True, True, True]
    assert decided.vector.item() == pytest.approx(1 / 3)


def test_without_a_model_rows_are_what_there_is():
    x = line(9.0, 10.0, 10.9)
    assert torch.equal(NormFilter()(x).vector, NormFilter(space="update")(x).vector)


def test_nobody_inside_is_skipped():
    decided = NormFilter(bound=1.0, space="update")(line(5.0, 6.0))
    assert decided.skipped and decided.vector.item() == 0 and not decided.accepted.any()


def test_refusals():
    with pytest.raises(ConfigError, match="lower must be at least 0 and below 1, got 1"):
        NormFilter(lower=1.0)
    with pytest.raises(ConfigError, match="factor must be positive, got 0"):
        NormFilter(factor=0)
    with pytest.raises(ConfigError, match="bound must be positive or null, got -1"):
        NormFilter(bound=-1)
