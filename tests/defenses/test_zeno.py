"""Zeno: scores by hand on a parabola, sign of the rows, and updates that end in NaN."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses.zeno import Zeno
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError, ToleranceError


def bowl(model: torch.Tensor) -> dict[str, float]:
    """Loss |w|^2."""
    return {"loss": float(model.double().square().sum()), "accuracy": 0.0}


def test_scores_by_hand():
    """w = (2, 0), F = 4. Updates (-1, 0), (1, 0), (-2, 0), (0, 0) end at losses 1, 9, 0, 4; with
    penalty 0.5: 3 - 0.5, -5 - 0.5, 4 - 2, 0. The lowest, client 1, is dropped."""
    rows = torch.tensor([[-1.0, 0], [1, 0], [-2, 0], [0, 0]])
    context = Context(model=torch.tensor([2.0, 0]), evaluate=bowl)
    result = Zeno(byzantine_count=1, penalty=0.5)(rows, context)
    assert result.scores.tolist() == [2.5, -5.5, 2.0, 0.0]
    assert result.accepted.tolist() == [True, False, True, True]
    assert result.vector.tolist() == [-1.0, 0.0]


def test_a_descending_update_beats_its_negative():
    """Sign convention: rows are updates, not gradients."""
    gradient = torch.tensor([4.0, 0.0])  # of |w|^2 at (2, 0)
    context = Context(model=torch.tensor([2.0, 0]), evaluate=bowl, byzantine_count=1)
    result = Zeno()(torch.stack([0.1 * gradient, -0.1 * gradient]), context)
    assert result.accepted.tolist() == [False, True]


def test_step_scales_the_trial_not_the_penalty():
    """Half the step from 2: 2 - 0.5 = 1.5, gain 4 - 2.25, length still 1."""
    context = Context(model=torch.tensor([2.0]), evaluate=bowl, byzantine_count=0)
    result = Zeno(step=0.5, penalty=1.0)(torch.tensor([[-1.0]]), context)
    assert result.scores.tolist() == [0.75]


@given(st.permutations(range(6)))
def test_order_of_clients_does_not_matter(order):
    rows = torch.tensor([[-1.0], [-1.5], [3.0], [0.5], [-0.2], [9.0]])
    context = Context(model=torch.tensor([2.0]), evaluate=bowl, byzantine_count=2)
    moved = Zeno()(rows[list(order)], context)
    torch.testing.assert_close(moved.vector, Zeno()(rows, context).vector)


def test_edges():
    context = Context(evaluate=bowl, byzantine_count=1)
    rows = torch.tensor([[1e30], [1.0]])  # without a model, it is 0; the loss is finite: 1e60
    assert Zeno()(rows, context).accepted.tolist() == [False, True]
    broken = Context(
        evaluate=lambda w: {"loss": float("nan") if w[0] > 5 else 1.0}, byzantine_count=1
    )
    assert Zeno()(torch.tensor([[9.0], [1.0]]), broken).accepted.tolist() == [False, True]
    ties = Zeno()(torch.ones(3, 2), context)
    assert ties.accepted.tolist() == [True, True, False]  # ties: lowest index stays
    with pytest.raises(ConfigError, match="Zeno needs the server's evaluation"):
        Zeno()(rows, Context(byzantine_count=1))
    with pytest.raises(ToleranceError, match="f=2 needs at least 3 clients, got 2"):
        Zeno(byzantine_count=2)(rows, context)
    with pytest.raises(ConfigError, match="step > 0"):
        Zeno(step=0)
    assert Zeno().needs == {"evaluate"}
