"""Uniform and proportional pay: who is counted, who is vetoed, and that every unit is accounted."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedalign.core.contracts import Work
from fedalign.core.errors import ConfigError
from incentives.proportional_pay import ProportionalPay
from incentives.uniform_pay import UniformPay
from tests.incentives.small_markets import arrived, market, outcome


def test_uniform_shares_of_100_among_three():
    """33 1/3 each: one unit is left, the lowest id gets it."""
    paid = UniformPay(100).settle(outcome([1.0, 1.0, 1.0], clients=[7, 4, 9]))
    assert dict(zip(paid.accounts, paid.amounts, strict=True)) == {7: 33, 4: 34, 9: 33}
    assert paid.total == 100 and paid.notes == {"vetoed": 0}


@pytest.mark.parametrize(
    ("vetoed", "amounts"), [("redistribute", [50, 0, 50, 0]), ("return", [25, 0, 25, 0])]
)
def test_the_vetoed_earn_nothing(vetoed, amounts):
    """Two of four accepted: their 100 are halved, or two quarters stay with the payer."""
    after = outcome([1.0] * 4, accepted=[True, False, True, False])
    paid = UniformPay(100, vetoed).settle(after)
    assert paid.amounts == amounts and paid.notes == {"vetoed": 2}


@pytest.mark.parametrize("incentive", [UniformPay(100), ProportionalPay(100, "weight")])
def test_where_nobody_is_accepted_nobody_is_paid(incentive):
    after = outcome([1.0, 1.0], accepted=[False, False])
    assert incentive.settle(after).total == 0
    nobody = outcome([])
    assert incentive.settle(nobody).accounts == []


def test_by_samples_by_hand():
    """10 : 20 : 70 of 50; without client 2: 10 : 20, which leaves 16 2/3 and 33 1/3."""
    pay = ProportionalPay(50)
    assert pay.settle(outcome([1.0] * 3, samples=[10, 20, 70])).amounts == [5, 10, 35]
    after = outcome([1.0] * 3, accepted=[True, True, False], samples=[10, 20, 70])
    assert pay.settle(after).amounts == [17, 33, 0]
    assert ProportionalPay(50, vetoed="return").settle(after).amounts == [5, 10, 0]


def test_by_effort_is_the_work_asked():
    """Two passes over 10 and 30 samples; with a fixed number of steps all do the same."""
    pay = ProportionalPay(80, "effort")
    offer = pay.announce(market([0, 1], [10, 30], Work(2)))
    assert offer.effort.tolist() == [20, 60] and offer.work == [Work(2)] * 2
    assert pay.settle(outcome([1.0, 1.0], offer=offer)).amounts == [20, 60]
    fixed = pay.announce(market([0, 1], [10, 30], Work(2, steps=5)))
    assert pay.settle(outcome([1.0, 1.0], offer=fixed)).amounts == [40, 40]


def test_by_effort_only_those_who_arrived_are_counted():
    pay = ProportionalPay(90, "effort")
    offer = arrived(pay.announce(market([3, 5, 8], [10, 20, 30])), [0, 2])
    paid = pay.settle(outcome([1.0, 1.0], clients=[3, 8], offer=offer))
    assert (paid.accounts, paid.amounts) == ([3, 8], [23, 67])  # 22.5 and 67.5: the lower id


def test_by_weight_and_by_scores():
    scores = torch.tensor([0.1, float("nan"), -2.0, 0.3])
    after = outcome([1.0] * 4, aggregate={"scores": scores})
    assert ProportionalPay(40, "scores").settle(after).amounts == [10, 0, 0, 30]
    weights = torch.tensor([0.5, 0.25, 0.25, 0.0])
    after = outcome([1.0] * 4, aggregate={"coefficients": weights})
    assert ProportionalPay(40, "weight").settle(after).amounts == [20, 10, 10, 0]


def test_a_rule_without_scores_is_named():
    with pytest.raises(ConfigError, match="by scores needs a rule that gives scores"):
        ProportionalPay(by="scores").settle(outcome([1.0, 2.0]))


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.booleans()), min_size=1, max_size=20),
    st.integers(0, 10**18),
    st.sampled_from(["redistribute", "return"]),
)
def test_the_budget_is_never_exceeded_and_redistribution_spends_all_of_it(clients, budget, vetoed):
    samples, accepted = map(list, zip(*clients, strict=True))
    after = outcome([1.0] * len(clients), accepted=accepted, samples=samples)
    paid = ProportionalPay(budget, vetoed=vetoed).settle(after)
    assert paid.total == sum(paid.amounts) <= budget
    assert all(a == 0 for a, kept in zip(paid.amounts, accepted, strict=True) if not kept)
    if any(accepted) and vetoed == "redistribute":
        assert paid.total == budget


def test_refusals():
    with pytest.raises(ConfigError, match=r"UniformPay.budget must be a whole number of 0 or more"):
        UniformPay(-1)
    with pytest.raises(ConfigError, match=r"ProportionalPay.budget .* got 1.5"):
        ProportionalPay(1.5)
    with pytest.raises(ConfigError, match="by is one of samples, effort, weight, scores"):
        ProportionalPay(by="looks")
    with pytest.raises(ConfigError, match="vetoed is one of redistribute, return, got 'burn'"):
        UniformPay(vetoed="burn")
