"""ARC by hand."""

import pytest
import torch

from defenses.fedavg import FedAvg
from defenses.median import Median
from defenses.norm_clip import NormClip
from defenses.pre.arc import ARC
from fedalign.core.contracts import Context
from fedalign.core.errors import ToleranceError

LINE = torch.tensor([[1.0], [-2.0], [3.0], [100.0], [-50.0]])


def test_the_longest_are_cut_to_the_next():
    """n = 5, f = 1: floor(2 · 1 · 4 / 5) = 1 row, 100, cut to 50: (1 - 2 + 3 + 50 - 50) / 5."""
    decided = ARC(FedAvg(), 1)(LINE)
    assert decided.vector.item() == pytest.approx(2 / 5)
    assert decided.coefficients.tolist() == pytest.approx([0.2, 0.2, 0.2, 0.1, 0.2])


def test_more_liars_more_rows():
    """f = 2: floor(2 · 2 · 3 / 5) = 2 rows, both cut to 3: (1 - 2 + 3 + 3 - 3) / 5."""
    decided = ARC(FedAvg())(LINE, Context(byzantine_count=2))
    assert decided.vector.item() == pytest.approx(2 / 5)
    assert decided.coefficients.tolist()[3:] == pytest.approx([0.2 * 0.03, 0.2 * 0.06])


def test_without_liars_nothing_is_cut():
    assert torch.equal(ARC(FedAvg(), 0)(LINE).vector, FedAvg()(LINE).vector)


def test_zeros_stay_zeros():
    assert ARC(Median(), 2)(torch.zeros(5, 3)).vector.tolist() == [0, 0, 0]


def test_facts_are_the_inner_rules():
    rule = ARC(NormClip(space="model"))
    assert (rule.space, rule.family, rule.linear) == ("model", "norm", False)


def test_half_of_the_clients_is_too_many():
    with pytest.raises(ToleranceError, match="ARC with f=3 needs at least 7 clients, got 5"):
        ARC(FedAvg(), 3)(LINE)
