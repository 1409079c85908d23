"""ExPO: the model of one round is pushed on along the way from an earlier one."""

import pytest
import torch

from fedalign.algorithms.extrapolation import Extrapolation
from fedalign.core.contracts import Aggregate
from fedalign.core.errors import ConfigError


def test_the_last_model_is_pushed_on_by_hand():
    """Rounds add 1, .2, .2, .1: theta_0 = 1 after round 1, theta_1 = 1.4 after round 3, and with
    factor 1.5 the model is 1 + 1.5 x .4 = 1.6. Later rounds go on from there as FedAvg."""
    rule, model, memory, seen = Extrapolation(start=1, end=3), torch.zeros(1), {}, []
    for step in (1.0, 0.2, 0.2, 0.1):
        aggregate = Aggregate(torch.tensor([step]), torch.ones(1, dtype=torch.bool))
        model, memory = rule.server_step(None, model, aggregate, memory)
        seen.append(float(model))
    assert seen == pytest.approx([1.0, 1.2, 1.6, 1.7])
    assert "origin" not in memory and memory["round"] == 4


def test_refusals():
    with pytest.raises(ConfigError, match=r"below end, factor 1 or more, got 3, 3 and 1.5"):
        Extrapolation(start=3, end=3)
