"""FedAvg by hand, and its refusals."""

import pytest
import torch

from defenses.fedavg import FedAvg
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError


def test_uniform_mean():
    """((0, 3) + (6, 0)) / 2 = (3, 1.5)."""
    decided = FedAvg()(torch.tensor([[0.0, 3.0], [6.0, 0.0]]))
    assert decided.vector.tolist() == [3, 1.5]
    assert decided.coefficients.tolist() == [0.5, 0.5]
    assert decided.accepted.all() and not decided.skipped


def test_weighted_by_samples():
    """(1 · 0 + 3 · 8) / 4 = 6; the uniform mean would be 4."""
    x = torch.tensor([[0.0], [8.0]])
    assert FedAvg("samples")(x, Context(weights=torch.tensor([1, 3]))).vector.item() == 6


def test_a_client_without_samples_is_accepted_but_weightless():
    decided = FedAvg("samples")(torch.tensor([[1.0], [8.0]]), Context(weights=torch.tensor([2, 0])))
    assert decided.vector.item() == 1
    assert decided.accepted.all()


def test_refusals_say_what_would_work():
    with pytest.raises(ConfigError, match=r"Context\(weights=...\)"):
        FedAvg("samples")(torch.ones(2, 1))
    with pytest.raises(ConfigError, match="'uniform' or 'samples', got 'sample'"):
        FedAvg("sample")
    with pytest.raises(ConfigError, match="'update' or 'model', got 'weights'"):
        FedAvg(space="weights")
