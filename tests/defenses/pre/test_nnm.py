"""NNM by hand, and what it hands through."""

from dataclasses import dataclass

import pytest
import torch

from defenses.fedavg import FedAvg
from defenses.krum import Krum
from defenses.median import Median
from defenses.norm_filter import NormFilter
from defenses.pre.nnm import NNM
from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.errors import ToleranceError

LINE = torch.tensor([[0.0], [1.0], [3.0], [50.0], [4.0]], dtype=torch.float64)


@dataclass(frozen=True)
class Recorder(Defense):
    """Counts its calls in memory, records what it is given, returns the first row."""

    seen: list

    def __call__(self, updates, context=Context()):
        self.seen.append((updates, context))
        calls = context.memory.get("calls", 0) + 1
        return Aggregate.select(updates, 0, memory={"calls": calls})


def test_every_row_becomes_the_mean_of_its_nearest():
    """n - f = 4, f = 1: of 0 1 3 50 4, rows 0 1 3 4 take each other: mean 2. Row 50 takes 50, 4,
    3, 1: 14.5."""
    seen = []
    NNM(Recorder(seen), 1)(LINE)
    assert seen[0][0][:, 0].tolist() == [2, 2, 2, 14.5, 2]


def test_coefficients_are_those_of_the_original_rows():
    """The mean of 2 2 2 14.5 2 is 4.5. Row 0 is in four mixtures of 1/4, four times 1/5: 0.2."""
    decided = NNM(FedAvg(), 1)(LINE)
    assert decided.vector.item() == pytest.approx(4.5)
    assert decided.coefficients.tolist() == pytest.approx([0.2, 0.25, 0.25, 0.05, 0.25])
    assert (decided.coefficients @ LINE).item() == pytest.approx(4.5)


def test_who_is_not_in_the_chosen_mixture_is_not_accepted():
    decided = NNM(Krum(1), 1)(LINE)
    assert decided.accepted.tolist() == [True, True, True, False, True]
    assert decided.vector.item() == 2


def test_the_inner_rule_knows_f_and_keeps_its_memory():
    seen, memory = [], {}
    rule = NNM(Recorder(seen), 1)
    for _ in range(3):
        memory = rule(LINE, Context(memory=memory, clients=torch.arange(5))).memory
    assert memory == {"rule": {"calls": 3}}
    assert seen[0][1].byzantine_count == 1 and seen[0][1].clients is None


def test_facts_are_the_inner_rules():
    rule = NNM(NormFilter())
    assert (rule.space, rule.family, rule.linear, rule.needs) == (
        "model",
        "norm",
        True,
        frozenset(),
    )
    assert not NNM(Median()).linear
    assert NNM(Krum()).minimum(2) == 7 and NNM(FedAvg()).minimum(2) == 5


def test_too_few_clients():
    with pytest.raises(ToleranceError, match="NNM with f=2 needs at least 7 clients, got 5"):
        NNM(Krum(), 2)(LINE)
