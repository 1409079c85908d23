"""Impacts of leaving one client out."""

import numpy as np
import pytest
import torch

from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError
from fedalign.core.leave_one_out import removal_impacts
from tests.defenses.small_rules import Mean, SlowMean


def test_by_hand_for_both_metrics():
    """Rows 0, 2, 10, mean 4. Without each: 6, 5, 1. Loss w: impacts -2, -1, 3. Right below 2: error
    1 with all, 0 without the last."""
    context = Context(evaluate=lambda w: {"loss": float(w[0]), "accuracy": float(w[0] < 2)})
    rows = torch.tensor([[0.0], [2.0], [10.0]])
    impacts = removal_impacts(Mean(), rows, context, ["loss", "error"])
    assert impacts.tolist() == [[-2, 0], [-1, 0], [3, 1]]


def test_the_shortcut_equals_aggregating_again_on_float32_rows():
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 30))).float()
    context = Context(evaluate=lambda w: {"loss": float(w.double().norm()), "accuracy": 0.0})
    fast = removal_impacts(Mean(), rows, context, ["loss"])
    slow = removal_impacts(SlowMean(), rows, context, ["loss"])
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-6)


def test_it_evaluates_once_for_all_and_once_for_each():
    seen = []
    context = Context(
        model=torch.tensor([100.0]),
        evaluate=lambda w: {"loss": seen.append(float(w[0])) or 0.0, "accuracy": 0.0},
    )
    removal_impacts(Mean(), torch.tensor([[0.0], [2.0], [10.0]]), context, ["loss"])
    assert seen == [104, 106, 105, 101]


def test_an_exploding_aggregate_is_blamed_on_its_cause():
    """Inf with client 1, 0 without: the impact is finite and largest."""
    context = Context(evaluate=lambda w: {"loss": float("inf") if w[0] > 9 else 0.0, "accuracy": 0})
    impacts = removal_impacts(Mean(), torch.tensor([[0.0], [50.0], [0.0]]), context, ["loss"])
    assert int(impacts.argmax()) == 1 and bool(impacts.isfinite().all())
    with pytest.raises(ConfigError, match=r"Context\(evaluate="):
        removal_impacts(Mean(), torch.ones(2, 1), Context(), ["loss"])
