"""LFR and ERR: who is removed, by hand; costs; and the shortcut for plain means."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses.err import ERR
from defenses.lfr import LFR
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError, ToleranceError
from tests.defenses.small_rules import Count, Mean, Middle, SlowMean


def near_one(model: torch.Tensor) -> dict[str, float]:
    """Loss (w - 1)^2, right where |w - 1| < 1/2."""
    gap = float(model[0]) - 1
    return {"loss": gap * gap, "accuracy": float(abs(gap) < 0.5)}


def test_lfr_by_hand():
    """Rows 1, 1, 1, 9: mean 3, loss 4. Without the 9: 1, loss 0, impact 4; without a 1: 11/3, loss
    64/9, impact 4 - 64/9. Client 3 goes."""
    rows = torch.tensor([[1.0], [1], [1], [9]], dtype=torch.float64)
    result = LFR(Mean())(rows, Context(byzantine_count=1, evaluate=near_one))
    assert result.scores.tolist() == pytest.approx([4 - 64 / 9] * 3 + [4])
    assert result.accepted.tolist() == [True, True, True, False]
    assert result.vector.tolist() == [1.0]
    assert result.coefficients.tolist() == pytest.approx([1 / 3] * 3 + [0])


def test_err_by_hand():
    """The same rows: error 1 with all, 0 without client 3, 1 without another."""
    rows = torch.tensor([[1.0], [1], [1], [9]])
    result = ERR(Mean())(rows, Context(byzantine_count=1, evaluate=near_one))
    assert result.scores.tolist() == [0, 0, 0, 1]
    assert result.vector.tolist() == [1.0]


def test_union_removes_both():
    """Rows 1, 1, 1, -8, 10, mean 1. Loss w: least without the 10 (-5/4). Right above 2: only without
    the -8 (13/4). LFR removes client 4, ERR client 3, the union both."""
    rows = torch.tensor([[1.0], [1], [1], [-8], [10]])
    context = Context(
        byzantine_count=1,
        evaluate=lambda w: {"loss": float(w[0]), "accuracy": float(w[0] > 2)},
    )
    kept = lambda rule: rule(rows, context).accepted.nonzero().flatten().tolist()  # noqa: E731
    assert kept(LFR(Mean())) == [0, 1, 2, 3]
    assert kept(ERR(Mean())) == [0, 1, 2, 4]
    assert kept(ERR(Mean(), remove="union")) == [0, 1, 2]


def test_the_model_is_evaluated_not_the_update():
    """Model 1: the updates -0.1, 0, 0.1 are near it, 8 is the liar."""
    rows = torch.tensor([[-0.1], [0.0], [0.1], [8.0]])
    context = Context(byzantine_count=1, model=torch.tensor([1.0]), evaluate=near_one)
    assert LFR(Mean())(rows, context).accepted.tolist() == [True, True, True, False]


@given(st.integers(0, 200), st.integers(3, 9))
def test_the_shortcut_for_means_changes_nothing(seed, n):
    rows = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    context = Context(byzantine_count=1, evaluate=near_one)
    fast, slow = LFR(Mean())(rows, context), LFR(SlowMean())(rows, context)
    torch.testing.assert_close(fast.scores, slow.scores, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(fast.vector, slow.vector)


def test_rules_without_coefficients_and_with_memory_are_wrapped_too():
    rows = torch.tensor([[1.0], [1], [1], [9]])
    context = Context(byzantine_count=1, evaluate=near_one)
    assert LFR(Middle())(rows, context).coefficients is None
    once = LFR(Count())(rows, context)
    assert once.memory == {"rule": {"runs": 1}}  # the n + 1 trials leave no trace
    again = LFR(Count())(rows, Context(byzantine_count=1, evaluate=near_one, memory=once.memory))
    assert again.memory == {"rule": {"runs": 2}}


def test_with_nobody_lying_nothing_is_evaluated():
    def forbidden(model):
        raise AssertionError("not to be called")

    for rule in (LFR(Mean()), ERR(Mean())):
        result = rule(torch.tensor([[2.0], [4.0]]), Context(byzantine_count=0, evaluate=forbidden))
        assert result.vector.tolist() == [3.0]
        assert rule(torch.tensor([[2.0]]), Context(byzantine_count=0)).vector.tolist() == [2.0]


@given(st.permutations(range(5)))
def test_order_of_clients_does_not_matter(order):
    rows = torch.tensor([[1.0], [1.2], [0.7], [9], [-4]], dtype=torch.float64)
    context = Context(byzantine_count=2, evaluate=near_one)
    for rule in (LFR(Mean()), LFR(Middle())):
        moved = rule(rows[list(order)], context)
        torch.testing.assert_close(moved.vector, rule(rows, context).vector)


def test_a_loss_that_is_no_number_is_the_worst():
    def fragile(model):
        return {"loss": float("nan") if model[0] > 2 else 0.0, "accuracy": 0.0}

    rows = torch.tensor([[1.0], [1], [1], [9]])
    context = Context(byzantine_count=1, evaluate=fragile)
    assert LFR(Mean())(rows, context).accepted.tolist() == [True, True, True, False]


def test_facts_and_messages():
    rule = LFR(Count(asks=3))
    assert (rule.minimum(0), rule.minimum(1), rule.minimum(4)) == (3, 4, 9)
    assert ERR(Count(asks=3), remove="union").minimum(4) == 11
    assert rule.needs == {"evaluate"} and rule.linear and not LFR(Middle()).linear
    with pytest.raises(ToleranceError, match="LFR with f=2 needs at least 5 clients, got 4"):
        LFR(Mean())(torch.ones(4, 1), Context(byzantine_count=2, evaluate=near_one))
    with pytest.raises(ConfigError, match="evaluate"):
        LFR(Mean())(torch.ones(4, 1), Context(byzantine_count=1))
    with pytest.raises(ConfigError, match="'error' or 'union', got 'loss'"):
        ERR(Mean(), remove="loss")
