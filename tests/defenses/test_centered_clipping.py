"""Centered clipping by hand, its memory, its shift."""

import pytest
import torch

from defenses.centered_clipping import CenteredClipping
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError


def test_two_steps_by_hand():
    """Rows 1, 2, 9, tau 2, from 0: steps 1, 2, 2 (clipped): v = 5/3. Then -2/3, 1/3, 2 (7.33
    clipped): v = 5/3 + (5/3)/3 = 20/9."""
    x = torch.tensor([[1.0], [2.0], [9.0]], dtype=torch.float64)
    assert CenteredClipping(tau=2, iterations=1)(x).vector.item() == pytest.approx(5 / 3)
    decided = CenteredClipping(tau=2, iterations=2)(x)
    assert decided.vector.item() == pytest.approx(20 / 9)
    assert decided.scores.tolist() == pytest.approx([1, 1, 2 / (9 - 5 / 3)])


def test_the_next_round_starts_where_this_one_ended():
    """From v = 5/3 the second step of the test above."""
    x = torch.tensor([[1.0], [2.0], [9.0]], dtype=torch.float64)
    rule = CenteredClipping(tau=2, iterations=1)
    first = rule(x)
    second = rule(x, Context(memory=first.memory))
    assert second.vector.item() == pytest.approx(20 / 9)
    assert torch.equal(second.memory["previous"], second.vector)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shifting_rows_and_start_shifts_the_result(dtype):
    x = torch.randn(9, 50, generator=torch.Generator().manual_seed(0), dtype=dtype)
    start, rule = x[3] / 2, CenteredClipping(tau=1.0)
    plain = rule(x, Context(memory={"previous": start})).vector
    moved = rule(x + 30, Context(memory={"previous": start + 30})).vector
    assert torch.allclose(moved, plain + 30, atol=1e-4 if dtype == torch.float32 else 1e-10)


def test_a_wide_radius_is_the_mean():
    x = torch.randn(9, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(CenteredClipping(tau=1e9)(x).vector, x.mean(dim=0))


def test_refusals():
    with pytest.raises(ConfigError, match="tau must be positive, got 0"):
        CenteredClipping(tau=0)
    with pytest.raises(ConfigError, match="iterations must be 1 or more, got 0"):
        CenteredClipping(iterations=0)
