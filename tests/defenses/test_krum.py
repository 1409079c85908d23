"""Krum by hand, its three conventions, its refusals."""

import pytest
import torch

from defenses.krum import Krum
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError, ToleranceError


def test_krum_picks_the_crowd_not_the_outlier():
    """Neighbours kept: n - f - 2 = 2. Scores 1+4, 1+1, 1+1, 1+4, 7²+8²: first minimum is client 1."""
    updates = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0]])
    decided = Krum(byzantine_count=1)(updates)
    assert decided.vector.item() == 1.0
    assert decided.scores.tolist() == [5, 2, 2, 5, 113]
    assert decided.accepted.tolist() == [False, True, False, False, False]
    assert decided.coefficients.tolist() == [0, 1, 0, 0, 0]


def test_conventions_choose_different_clients():
    """Points 0 0 4 7 8 10, f = 1. k = 3: 0 0 16 49 -> 65 for row 0; row 4 (8): 1 + 4 + 16 = 21;
    row 3 (7): 1 + 9 + 9 = 19. k = 4: row 2 (4): 9 + 16 + 16 + 16 = 57, row 3: 19 + 49 = 68."""
    x = torch.tensor([[0.0], [0.0], [4.0], [7.0], [8.0], [10.0]])
    assert Krum(1)(x).vector.item() == 7
    assert Krum(1, neighbors="n-f-1")(x).vector.item() == 4
    assert Krum(1, neighbors="n-f")(x).scores[2].item() == 57 + 36


def test_conventions_disagree_on_one_matrix_in_six():
    """Specification 3.2: about 16 % at n = 10, f = 2."""
    differ = 0
    for seed in range(400):
        x = torch.randn(10, 20, generator=torch.Generator().manual_seed(seed))
        one, other = Krum(2)(x).accepted, Krum(2, neighbors="n-f-1")(x).accepted
        differ += not torch.equal(one, other)
    assert 0.10 < differ / 400 < 0.24


def test_models_and_updates_are_equally_far_apart():
    x = torch.randn(9, 30, generator=torch.Generator().manual_seed(0))
    model = torch.full((30,), 40.0)
    one = Krum(2)(x, Context(model=model))
    other = Krum(2, space="model")(x, Context(model=model))
    assert torch.equal(one.vector, other.vector)


def test_refusals_say_what_would_work():
    with pytest.raises(
        ToleranceError,
        match="Krum with f=5 needs at least 13 clients, got 10: lower byzantine_count to 3 or raise",
    ):
        Krum(5)(torch.ones(10, 2))
    with pytest.raises(ConfigError, match="'n-f-2' or 'n-f-1' or 'n-f', got 'n-2'"):
        Krum(neighbors="n-2")
    with pytest.raises(ConfigError, match="whole number, 0 or more, or null, got -1"):
        Krum(-1)
    with pytest.raises(ConfigError, match="How many clients may lie"):
        Krum()(torch.ones(10, 2))
