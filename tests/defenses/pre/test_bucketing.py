"""Bucketing by hand: groups, their condition, what comes back per client."""

import numpy as np
import pytest
import torch

from defenses.fedavg import FedAvg
from defenses.krum import Krum
from defenses.median import Median
from defenses.multi_krum import MultiKrum
from defenses.pre.bucketing import Bucketing
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError, ToleranceError


class Fixed:
    """A generator whose permutation is known."""

    def __init__(self, *order):
        self.order = np.array(order)

    def permutation(self, n):
        return self.order


def test_groups_by_hand():
    """Order 4 0 | 3 1 | 2: means (5 + 1) / 2, (4 + 2) / 2, 3: 3 3 3; the median is 3."""
    x = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]])
    decided = Bucketing(Median())(x, Context(rng=Fixed(4, 0, 3, 1, 2)))
    assert decided.vector.item() == 3
    assert decided.accepted.all()


def test_the_last_group_may_be_smaller():
    """Order 0 1 | 2 : means 3 and 12; their mean 7.5 has coefficients 1/4 1/4 1/2."""
    x = torch.tensor([[2.0], [4.0], [12.0]])
    decided = Bucketing(FedAvg())(x, Context(rng=Fixed(0, 1, 2)))
    assert decided.vector.item() == 7.5
    assert decided.coefficients.tolist() == [0.25, 0.25, 0.5]


def test_a_group_is_accepted_or_rejected_as_one():
    """Row 7 at 1000 spoils its group partner 6; the other three groups stay."""
    x = torch.tensor([[0.0], [1.0], [0.0], [1.0], [0.0], [1.0], [0.0], [1000.0], [1.0], [0.0]])
    rule = Bucketing(MultiKrum(keep=4), byzantine_count=1)
    decided = rule(x, Context(rng=Fixed(*range(10))))
    assert decided.accepted.tolist() == [True] * 6 + [False, False] + [True, True]
    assert decided.vector.item() == 0.5
    assert decided.scores.tolist()[6] == decided.scores.tolist()[7]


def test_f_must_fit_among_the_groups():
    """Krum with f = 2 needs 7 groups, hence 6 · 2 + 1 = 13 clients (seven groups, one of one)."""
    rule = Bucketing(Krum(), size=2, byzantine_count=2)
    assert rule.minimum(2) == 13
    with pytest.raises(
        ToleranceError, match="Bucketing with f=2 needs at least 13 clients, got 12"
    ):
        rule(torch.ones(12, 1))
    assert rule(torch.ones(13, 1)).vector.item() == 1
    assert Bucketing(FedAvg(), size=3).minimum(2) == 4 * 3 + 1  # f size < n / 2


def test_groups_are_drawn_from_the_context():
    x = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    results = [
        Bucketing(Median())(x, Context(rng=np.random.default_rng(seed))).vector
        for seed in (1, 1, 2)
    ]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_refusals():
    with pytest.raises(ConfigError, match="size must be 1 or more, got 0"):
        Bucketing(Median(), size=0)
