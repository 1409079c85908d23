"""Zeno++: rows take the reference's length and must agree with it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses.zenopp import ZenoPP
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError


def test_by_hand():
    """v = (2, 0). Rows (3, 4), (-1, 0), (0, 5), (1, 0): scaled (1.2, 1.6), (-2, 0), (0, 2), (2, 0);
    <v, g> = 2.4, -4, 0, 4 minus 0.002 * 4: only the first and last stay, mean (1.6, 0.8)."""
    rows = torch.tensor([[3.0, 4], [-1, 0], [0, 5], [1, 0]])
    result = ZenoPP()(rows, Context(root_update=torch.tensor([2.0, 0])))
    assert result.scores.tolist() == pytest.approx([2.392, -4.008, -0.008, 3.992])
    assert result.accepted.tolist() == [True, False, False, True]
    assert result.vector.tolist() == pytest.approx([1.6, 0.8])
    assert result.coefficients.tolist() == pytest.approx([0.2, 0, 0, 1])


def test_gradients_and_updates_give_the_same_verdict():
    """The paper's x and v are gradients; updates are -lr times those: <-v, -g> = <v, g>."""
    gradients = torch.tensor([[3.0, 4], [-1, 0], [0, 5], [1, 0]])
    root = torch.tensor([2.0, 0])
    ours = ZenoPP()(-0.3 * gradients, Context(root_update=-root))
    paper = ZenoPP()(gradients, Context(root_update=root))
    torch.testing.assert_close(ours.scores, paper.scores)
    torch.testing.assert_close(ours.vector, -paper.vector)


@pytest.mark.parametrize("cosine, passes", [(0.31, True), (0.29, False)])
def test_without_slack_it_is_a_cosine_threshold(cosine, passes):
    """penalty / step = 0.6 / 2 = 0.3."""
    row = torch.tensor([[cosine, (1 - cosine**2) ** 0.5]])
    context = Context(root_update=torch.tensor([7.0, 0]))
    assert bool(ZenoPP(step=2.0, penalty=0.6)(row, context).accepted) is passes


def test_slack_forgives():
    """cos = -0.1 at |v| = 1: score -0.1 - 0.002 + slack."""
    row = torch.tensor([[-0.1, 0.99**0.5]])
    context = Context(root_update=torch.tensor([1.0, 0]))
    assert not ZenoPP()(row, context).accepted and ZenoPP(slack=0.11)(row, context).accepted


def test_a_reference_lasts_refresh_rounds():
    rule = ZenoPP(refresh=2)
    right, up = torch.tensor([1.0, 0]), torch.tensor([0, 1.0])
    rows = torch.tensor([[1.0, -0.5]])
    first = rule(rows, Context(round=1, root_update=right))
    second = rule(rows, Context(round=2, root_update=up, memory=first.memory))
    third = rule(rows, Context(round=3, root_update=up, memory=second.memory))
    assert [bool(r.accepted) for r in (first, second, third)] == [True, True, False]
    assert third.memory["round"] == 3
    assert ZenoPP()(rows, Context(root_update=right)).memory == {}


@given(st.permutations(range(6)), st.lists(st.floats(0.01, 1e6), min_size=6, max_size=6))
def test_order_and_lengths_do_not_matter(order, scales):
    rows = torch.tensor(
        [[1.0, 2, 0], [3, -1, 1], [-1, -1, -1], [0, 1, 5], [2, 2, 2], [-4, 0, 1]],
        dtype=torch.float64,
    )
    context = Context(root_update=torch.ones(3, dtype=torch.float64))
    stretched = rows * torch.tensor(scales, dtype=torch.float64)[:, None]
    moved = ZenoPP()(stretched[list(order)], context)
    torch.testing.assert_close(moved.vector, ZenoPP()(rows, context).vector)


def test_edges():
    root = Context(root_update=torch.ones(2))
    rows = torch.tensor([[0.0, 0], [1, 1]])
    assert ZenoPP()(rows, root).accepted.tolist() == [False, True]
    assert ZenoPP()(torch.zeros(3, 2), root).skipped
    assert ZenoPP()(-torch.ones(3, 2), root).skipped
    assert ZenoPP()(torch.ones(3, 2), Context(root_update=torch.zeros(2))).skipped
    assert ZenoPP()(torch.ones(2, 1), Context(root_update=torch.ones(1))).vector.tolist() == [1.0]
    with pytest.raises(ConfigError, match=r"Zeno\+\+ needs the update of the server's root data"):
        ZenoPP()(rows)
    with pytest.raises(ConfigError, match="refresh >= 1"):
        ZenoPP(refresh=0)
    with pytest.raises(ConfigError, match="penalty must be 0 or more"):
        ZenoPP(penalty=-1)
