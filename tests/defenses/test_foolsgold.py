"""FoolsGold: twins lose their weight, histories decide, weights by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses.foolsgold import FoolsGold
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError, UnknownNameError
from fedalign.core.vectors import Layout


@pytest.mark.parametrize("twins", [2, 3, 4])
def test_identical_rows_weigh_nothing_and_orthogonal_ones_the_same(twins):
    rows = torch.cat([torch.eye(6)[:1].repeat(twins - 1, 1), torch.eye(6)])
    result = FoolsGold()(rows)
    assert result.coefficients.tolist() == [0.0] * twins + [pytest.approx(0.2)] * 5
    assert result.accepted.tolist() == [False] * twins + [True] * 5


def test_weights_by_hand():
    """cos(x0, x1) = 0.6, x2 orthogonal: novelty 0.4, 0.4, 1 -> 0.99.
    ln(0.4 / 0.6) + 0.5 = 0.094535, ln(99) + 0.5 > 1: weights 0.094535, 0.094535, 1."""
    rows = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 5.0]], dtype=torch.float64)
    result = FoolsGold()(rows)
    assert result.scores.tolist() == pytest.approx([0.094535, 0.094535, 1.0], abs=1e-6)
    assert result.coefficients.tolist() == pytest.approx([0.079500, 0.079500, 0.841], abs=1e-4)
    loud = FoolsGold(normalize=False)(rows)
    torch.testing.assert_close(loud.vector, result.scores @ rows)


def test_pardoning_by_hand():
    """Cosines 0.9 (0, 1), 0.5 (0, 2), 0.4 (1, 2); nearest v = 0.9, 0.9, 0.5. Client 2 looks like
    more suspicious ones: 0.5 * 0.5 / 0.9 = 0.2778, novelty 0.7222, theirs 0.1. Over the largest:
    0.1385, 0.1385, 1. ln(0.1385 / 0.8615) + 0.5 < 0: weights 0, 0, 1.
    Confidence 0.2 without pardoning would leave 0.2 (ln(0.2 / 0.8) + 0.5) < 0 as well, so the
    scores of a softer trio are compared: cosines 0.5, 0.3, 0 give v = 0.5, 0.5, 0.3, novelty
    0.5, 0.5, 1 - 0.3 * 0.3 / 0.5 = 0.82, over 0.82: 0.6098, whose logit + 0.5 = 0.94629."""
    hard = torch.linalg.cholesky(_gram(0.9, 0.5, 0.4))
    assert FoolsGold()(hard).scores.tolist() == [0.0, 0.0, 1.0]
    soft = torch.linalg.cholesky(_gram(0.5, 0.3, 0.0))
    assert FoolsGold()(soft).scores.tolist() == pytest.approx([0.946287, 0.946287, 1], abs=1e-5)


def _gram(a: float, b: float, c: float) -> torch.Tensor:
    return torch.tensor([[1, a, b], [a, 1, c], [b, c, 1]], dtype=torch.float64)


def test_history_unmasks_sybils_that_differ_in_each_round():
    """Rounds (1, 0), (0, 1) and (0, 1), (1, 0): orthogonal every round, equal in sum."""
    first = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    second = torch.tensor([[0, 1.0, 0], [1.0, 0, 0], [0, 0, 1.0]])
    one = FoolsGold()(first)
    assert bool(one.accepted.all())
    two = FoolsGold()(second, Context(round=2, memory=one.memory))
    assert two.coefficients.tolist() == [0.0, 0.0, 1.0]
    assert two.memory["history"].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 2]]


def test_histories_follow_ids_not_positions():
    first = FoolsGold()(torch.eye(3), Context(clients=torch.tensor([7, 2, 5])))
    assert first.memory["clients"].tolist() == [2, 5, 7]
    context = Context(clients=torch.tensor([5, 9]), memory=first.memory)
    second = FoolsGold()(torch.eye(3)[:2], context)
    assert second.memory["clients"].tolist() == [2, 5, 7, 9]
    assert second.memory["history"].tolist() == [[0, 1, 0], [1, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert first.memory["history"].tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]  # untouched


def test_only_the_named_part_is_compared():
    """Twins in the head, strangers in the body: the body alone sees nothing."""
    layout = Layout.of({"body": (2,), "head": (2,)})
    rows = torch.tensor([[1.0, 0, 1, 0], [0, 1, 1, 0], [-1, 0, 0, 1]])
    context = Context(layout=layout)
    assert FoolsGold(part="head")(rows, context).accepted.tolist() == [False, False, True]
    assert FoolsGold(part="body")(rows, context).accepted.tolist() == [True, True, True]
    assert FoolsGold(part="head")(rows, context).memory["history"].shape == (3, 2)
    with pytest.raises(UnknownNameError, match="What exists: body, head"):
        FoolsGold(part="lora*")(rows, context)
    with pytest.raises(ConfigError, match="layout"):
        FoolsGold(part="head")(rows)


def test_a_history_beyond_float32_does_not_blind_the_rule():
    """Two rows of 3e38 add up to more than the largest float32, 3.4e38."""
    rows = torch.eye(3)
    rows[0, 0] = 3e38
    first = FoolsGold()(rows)
    second = FoolsGold()(rows, Context(round=2, memory=first.memory))
    assert bool(second.vector.isfinite().all()) and bool(second.accepted.all())


@given(st.permutations(range(8)), st.integers(0, 20))
def test_order_of_clients_does_not_matter(order, seed):
    rows = torch.randn(8, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    plain, moved = FoolsGold()(rows), FoolsGold()(rows[list(order)])
    torch.testing.assert_close(moved.vector, plain.vector)
    torch.testing.assert_close(moved.coefficients, plain.coefficients[list(order)])


def test_edges():
    one = FoolsGold()(torch.tensor([[2.0, 3.0]]))
    assert one.coefficients.tolist() == [1.0] and one.vector.tolist() == [2.0, 3.0]
    equal = FoolsGold()(torch.ones(4, 3))  # no novelty anywhere: all are treated alike
    torch.testing.assert_close(equal.vector, torch.ones(3))
    zero = FoolsGold()(torch.zeros(3, 2))
    assert zero.coefficients.tolist() == pytest.approx([1 / 3] * 3)
    line = FoolsGold()(torch.tensor([[1.0], [2.0], [-1.0]]))  # d = 1: two agree, one does not
    assert line.coefficients.tolist() == [0.0, 0.0, 1.0]
    with pytest.raises(ConfigError, match="above 0"):
        FoolsGold(confidence=0)
