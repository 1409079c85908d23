"""Endogenous effort: priced effort, a contest, and a lump sum; predicted and realised agree."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedalign.core import memory
from fedalign.core.contracts import Work
from fedalign.core.errors import ConfigError
from incentives.lump_sum_pay import LumpSumPay
from incentives.priced_effort_pay import PricedEffortPay
from incentives.tullock_pay import TullockPay
from incentives.workers import Workers
from tests.incentives.small_markets import market, outcome

EQUAL = Workers(cost=(2.0, 2.0), quality=(1.0, 1.0), capacity=(9.0, 9.0), steps_per_ghz=4)
MIXED = Workers(cost=(2.0, 6.0), capacity=(1.0, 3.0), steps_per_ghz=4)


def test_the_price_by_hand():
    """Four clients, q = 1, a = 2: S = 4 / 4 = 1. With g = 40, X0 = 1: r = (sqrt(1 + 80) - 1) / 2
    = 4, x = r / (2a) = 1, X = 4; each is paid r x = 4 and keeps 4 - 2 = 2. One GHz is 4 steps,
    and 20 samples of 0.1 gigacycles take 2 s."""
    workers = replace(EQUAL, gigacycles_per_sample=0.1)
    pay = PricedEffortPay(workers, budget=1000, gain=40.0, scale=1.0)
    offer = pay.announce(market(range(4), 20))
    assert offer.prices["training_price"] == pytest.approx(4)
    assert offer.effort.tolist() == pytest.approx([1] * 4)
    assert offer.promised.tolist() == pytest.approx([4] * 4)
    assert offer.utility.tolist() == pytest.approx([2] * 4)
    assert offer.seconds.tolist() == pytest.approx([2] * 4)
    assert offer.work == [Work(steps=4)] * 4
    assert offer.certificate["status"] == "CERTIFIED" and not offer.certificate["at_bound"]
    assert offer.certificate["leader_utility"] == pytest.approx(40 * np.log(5) - 16)


def test_a_budget_caps_the_price():
    """r X = r^2 S <= 9: r = 3, x = 3/4, and 4 x 2.25 is the budget."""
    pay = PricedEffortPay(EQUAL, budget=9, gain=40.0, scale=1.0)
    offer = pay.announce(market(range(4)))
    assert offer.prices["training_price"] == pytest.approx(3)
    assert offer.promised.sum() == pytest.approx(9) and offer.certificate["at_bound"]


@pytest.mark.parametrize("make", [PricedEffortPay, TullockPay])
@pytest.mark.parametrize("nothing", [{"budget": 0}, {"gain": 0.0}])
def test_without_a_budget_or_a_gain_nobody_is_asked(make, nothing):
    pay = make(EQUAL, **nothing)
    offer = pay.announce(market(range(4)))
    assert offer.work == [None] * 4 and set(offer.prices.values()) == {0.0}
    assert offer.certificate["status"] == "NO_BUDGET"
    assert pay.settle(outcome([], offer=offer.cut([]))).total == 0


@pytest.mark.parametrize("budget", [5, 50, 10**6])
def test_what_is_promised_never_exceeds_the_budget(budget):
    pay = PricedEffortPay(MIXED, budget=budget, gain=500.0, scale=1.0)
    offer = pay.announce(market(range(12)))
    assert float(offer.promised.sum()) <= budget * (1 + 1e-12)
    assert (offer.utility >= 0).all() and offer.certificate["status"] == "CERTIFIED"


def test_no_client_gains_by_another_effort():
    """The announced price against a grid of efforts: U(x) = r q x - a x^2 within capacity."""
    pay = PricedEffortPay(MIXED, budget=200, gain=500.0, scale=1.0)
    here = market(range(8))
    offer, types = pay.announce(here), MIXED.types(here)
    r = offer.prices["training_price"]
    for u in range(8):
        x = np.linspace(0, types.capacity[u], 2001)
        best = (r * types.quality[u] * x - types.cost[u] * x**2).max()
        assert best <= float(offer.utility[u]) + 1e-6


def test_accepted_effort_is_paid_as_promised_in_whole_units():
    """Promised 10.6, 20.7, 30.9; the second is vetoed: 41.5 in all is 41, the larger rest is .9."""
    pay = PricedEffortPay(EQUAL)
    offer = pay.announce(market(range(3)))
    promised = torch.tensor([10.6, 20.7, 30.9], dtype=torch.float64)
    offer = replace(offer, promised=promised, prices={"training_price": 2.0})
    paid = pay.settle(outcome([1.0] * 3, [True, False, True], offer=offer, memory=offer.memory))
    assert paid.amounts == [10, 0, 31] and paid.contributions == pytest.approx([5.3, 10.35, 15.45])
    assert paid.memory == offer.memory


@pytest.mark.parametrize("make", [PricedEffortPay, TullockPay])
def test_the_price_is_solved_once_for_the_same_clients(make, monkeypatch, tmp_path):
    """The next round takes it from memory, also from one that was on disk; others are asked anew."""
    pay, solved = make(MIXED, budget=500, gain=300.0), []
    solve = __import__("incentives._leader", fromlist=["solve"]).solve
    monkeypatch.setattr("incentives._leader.solve", lambda *a: solved.append(1) or solve(*a))
    first = pay.announce(market(range(5)))
    memory.write(tmp_path / "m", first.memory)
    again = pay.announce(market(range(5), memory=memory.read(tmp_path / "m"), round=2))
    assert len(solved) == 1 and again.prices == first.prices
    assert again.certificate == first.certificate and torch.equal(again.effort, first.effort)
    pay.announce(market([0, 1, 2, 3, 9], memory=first.memory, round=3))
    assert len(solved) == 2


def test_a_contest_by_hand():
    """Four equal clients, b = 2, kappa = 3/8: the prize is v - Y0 / kappa = 16 - 3 / (3/8) = 8;
    y = R (n - 1) / (n^2 b) = 0.75, so Y = 3, and each keeps R / n^2 = 1/2."""
    offer = TullockPay(EQUAL, budget=100, gain=16.0, scale=3.0).announce(market(range(4)))
    assert offer.prices["prize"] == pytest.approx(8)
    assert offer.effort.tolist() == pytest.approx([0.75] * 4)
    assert offer.utility.tolist() == pytest.approx([0.5] * 4)
    assert offer.work == [Work(steps=3)] * 4 and offer.certificate["status"] == "CERTIFIED"


def test_the_prize_stays_within_the_budget():
    offer = TullockPay(EQUAL, budget=5, gain=16.0, scale=3.0).announce(market(range(4)))
    assert offer.prices["prize"] == pytest.approx(5) and offer.certificate["at_bound"]


def test_who_is_too_dear_to_compete_gets_no_task():
    """Costs 2 .. 40 among 12: the dearest would lose by any effort."""
    workers = Workers(cost=(2.0, 40.0), capacity=(9.0, 9.0))
    here = market(range(12))
    offer = TullockPay(workers, budget=900, gain=1000.0).announce(here)
    away = [work is None for work in offer.work]
    cost = workers.types(here).cost
    assert any(away) and not all(away)
    assert cost[away].min() > cost[[not a for a in away]].max()


@pytest.mark.parametrize(
    ("vetoed", "amounts"), [("redistribute", [25, 0, 75]), ("return", [10, 0, 30])]
)
def test_the_prize_is_divided_by_effort(vetoed, amounts):
    """Efforts 1, 6, 3; the second is vetoed. Of 100.9, whole units: 100."""
    pay = TullockPay(EQUAL, vetoed=vetoed)
    offer = pay.announce(market(range(3)))
    effort = torch.tensor([1.0, 6.0, 3.0], dtype=torch.float64)
    offer = replace(offer, effort=effort, prices={"prize": 100.9})
    paid = pay.settle(outcome([1.0] * 3, [True, False, True], offer=offer))
    assert paid.amounts == amounts and paid.contributions == [1.0, 6.0, 3.0]


def test_one_client_is_no_contest():
    offer = TullockPay(EQUAL, budget=100, gain=16.0).announce(market([3]))
    assert offer.work == [None] and offer.certificate["status"] == "NO_CONTEST"
    assert "with one miner" in offer.certificate["reason"]


def test_a_lump_sum_buys_the_least_effort():
    """Wage 100 / 4 = 25; one step is 1/4 GHz and costs 2 / 16: taken. Two steps at 8 per GHz^2 ..."""
    offer = LumpSumPay(EQUAL, budget=100).announce(market(range(4)))
    assert offer.work == [Work(steps=1)] * 4 and offer.prices == {"wage": 25.0}
    assert offer.utility.tolist() == [25 - 2 / 16] * 4
    paid = LumpSumPay(EQUAL, budget=100).settle(
        outcome([1.0] * 4, [True, True, False, True], offer=offer)
    )
    assert paid.amounts == [25, 25, 0, 25] and paid.total == 75


def test_a_wage_below_the_cost_is_refused():
    """Eight steps are 2 GHz and cost 2 x 4 = 8; the wage is 7. Beyond 9 GHz no wage helps."""
    poor = LumpSumPay(EQUAL, budget=28, least_steps=8).announce(market(range(4)))
    assert poor.work == [None] * 4 and float(poor.promised.sum()) == 0
    fair = LumpSumPay(EQUAL, budget=32, least_steps=8).announce(market(range(4)))
    assert fair.work == [Work(steps=8)] * 4 and fair.utility.tolist() == [0.0] * 4
    weak = LumpSumPay(EQUAL, budget=10**6, least_steps=37).announce(market(range(4)))
    assert weak.work == [None] * 4


def test_effort_based_pay_buys_more_work_than_a_lump_sum_of_the_same_budget():
    here, workers = market(range(10)), Workers()
    lump = LumpSumPay(workers).announce(here)
    for pay in (PricedEffortPay(workers), TullockPay(workers)):
        offer = pay.announce(here)
        assert offer.effort.sum() > 2 * lump.effort.sum()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PricedEffortPay(EQUAL, budget=-1), r"PricedEffortPay.budget must be a whole"),
        (lambda: PricedEffortPay(EQUAL, gain=float("inf")), "gain must be finite and at least 0"),
        (lambda: TullockPay(EQUAL, scale=0.0), "scale must be finite and at least 1e-09, got 0.0"),
        (lambda: TullockPay(EQUAL, vetoed="keep"), "vetoed is one of redistribute, return"),
        (lambda: LumpSumPay(EQUAL, least_steps=0), "least_steps must be a whole number of 1"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
