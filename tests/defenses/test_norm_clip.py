"""Norm clipping by hand, in both spaces, with noise."""

import numpy as np
import pytest
import torch

from defenses.norm_clip import NormClip
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError

ROWS = torch.tensor([[3.0, 4.0], [0.0, 10.0], [1.0, 0.0]])  # lengths 5, 10, 1


def test_clip_to_the_median_length():
    """C = 5: (3, 4), (0, 5), (1, 0); mean (4/3, 3)."""
    decided = NormClip()(ROWS)
    assert decided.vector.tolist() == pytest.approx([4 / 3, 3])
    assert decided.coefficients.tolist() == pytest.approx([1 / 3, 1 / 6, 1 / 3])
    assert decided.scores.tolist() == [5, 10, 1] and decided.notes["bound"] == 5


def test_an_absolute_bound():
    """C = 2: (1.2, 1.6), (0, 2), (1, 0); mean (2.2 / 3, 1.2)."""
    assert NormClip(2.0)(ROWS).vector.tolist() == pytest.approx([2.2 / 3, 1.2])


def test_on_models():
    """Model (0, 5), C = 5: models (3, 9) of length 9.4868, (0, 15), (1, 5) of 5.0990: each to 5;
    minus the model. The combination includes the model, so there are no coefficients."""
    model = torch.tensor([0.0, 5.0])
    lengths = [90**0.5, 15.0, 26**0.5]
    wanted = [
        (3 * 5 / lengths[0] + 0 + 1 * 5 / lengths[2]) / 3,
        (9 * 5 / lengths[0] + 15 * 5 / 15 + 5 * 5 / lengths[2]) / 3 - 5,
    ]
    rule = NormClip(5.0, space="model")
    decided = rule(ROWS, Context(model=model))
    assert decided.vector.tolist() == pytest.approx(wanted, abs=1e-5)
    assert decided.coefficients is None and not rule.linear


def test_influence_is_bounded():
    """One client of three moves the mean by at most C / n = 2 / 3."""
    x = ROWS.clone()
    x[0] = 1e30
    moved = NormClip(2.0)(x).vector - NormClip(2.0)(ROWS[1:]).vector * 2 / 3
    assert float(moved.norm()) <= 2 / 3 + 1e-6


def test_a_clipped_giant_is_rejected_in_the_statistics():
    x = torch.cat([torch.eye(9), torch.full((1, 9), 1e6)])
    assert NormClip()(x).accepted.tolist() == [True] * 9 + [False]


def test_noise_has_the_asked_deviation_and_comes_from_the_context():
    x = torch.zeros(3, 20_000)
    rule = NormClip(1.0, noise=0.5)
    one = rule(x, Context(rng=np.random.default_rng(1)))
    other = rule(x, Context(rng=np.random.default_rng(1)))
    assert torch.equal(one.vector, other.vector)
    assert one.vector.dtype == torch.float32
    assert float(one.vector.std()) == pytest.approx(0.5, rel=0.03)
    assert one.coefficients is None


def test_refusals():
    with pytest.raises(ConfigError, match="bound must be positive or null, got 0"):
        NormClip(0)
    with pytest.raises(ConfigError, match=r"noise must be 0 or more, got -0\.1"):
        NormClip(noise=-0.1)
