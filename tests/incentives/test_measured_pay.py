"""Pay by measured contributions: leave-one-out, Shapley and GTG-Shapley."""

from itertools import pairwise

import pytest
import torch

from fedalign.core.errors import ConfigError
from incentives._worth import WORST, worth_of
from incentives.gtg_shapley_pay import GtgShapleyPay
from incentives.leave_one_out_pay import LeaveOneOutPay
from incentives.shapley_pay import ShapleyPay
from tests.incentives.small_markets import market, outcome

RULES = [LeaveOneOutPay(600), ShapleyPay(600, pairs=None), ShapleyPay(600), GtgShapleyPay(600)]


def test_the_worth_of_a_coalition_by_hand():
    """Rows 1, 0, -1 on w = 0; v = 1 - (w - 1)^2: nobody 0; {0}: 1; {0, 1}: w = 1/2, 3/4; all: 0."""
    after = outcome([1.0, 0.0, -1.0])
    for measure in ("accuracy", "loss"):
        worth = worth_of(after, [0, 1, 2], measure, after.evaluate)
        assert [worth(s) for s in ((), (0,), (0, 1), (0, 1, 2), (2,))] == [0, 1, 0.75, 0, -3]


def test_players_are_the_accepted_rows():
    after = outcome([5.0, 1.0, 7.0])
    assert worth_of(after, [1], "accuracy", after.evaluate)((0,)) == 1


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 1e30])
def test_a_ruined_model_counts_as_the_worst_not_as_nothing(loss):
    after = outcome([1.0])
    worth = worth_of(after, [0], "loss", lambda model: {"accuracy": 0.0, "loss": loss})
    assert worth((0,)) == -WORST


def test_leave_one_out_by_hand():
    """Rows 1, 0.5, 0: v(N) = 3/4. Without 0: w = 1/4, 7/16; without 1: w = 1/2, 3/4; without 2:
    w = 3/4, 15/16. So 5/16, 0, -3/16: client 0 gets all."""
    paid = LeaveOneOutPay(600).settle(outcome([1.0, 0.5, 0.0]))
    assert paid.contributions == pytest.approx([5 / 16, 0, -3 / 16])
    assert paid.amounts == [600, 0, 0]


def test_shapley_by_hand():
    """Rows 1 and 0: v({0}) = 1, v({1}) = 0, v(both) = 3/4: (1 + 3/4) / 2 and (0 - 1/4) / 2."""
    paid = ShapleyPay(600, pairs=None).settle(outcome([1.0, 0.0]))
    assert paid.contributions == pytest.approx([7 / 8, -1 / 8])
    assert paid.amounts == [600, 0] and paid.total == 600


def test_sampled_and_gtg_agree_with_the_exact_values_where_all_orders_are_seen():
    """Two clients have two orders: one antithetic pair is exact, so is one turn of leaders."""
    rows = [0.9, 0.4]
    exact = ShapleyPay(600, pairs=None).settle(outcome(rows)).contributions
    assert ShapleyPay(600, pairs=1).settle(outcome(rows)).contributions == pytest.approx(exact)
    gtg = GtgShapleyPay(600, round_truncation=0.0, truncation=0.0, tolerance=0.0, orders=2)
    assert gtg.settle(outcome(rows)).contributions == pytest.approx(exact)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_vetoed_client_is_nobody(rule):
    """A row of -50 that was not accepted changes neither values nor pay of the others."""
    rows = [1.0, 0.8, 0.9]
    without = rule.settle(outcome(rows))
    beside = rule.settle(outcome([1.0, -50.0, 0.8, 0.9], accepted=[True, False, True, True]))
    assert beside.amounts == [without.amounts[0], 0, *without.amounts[1:]]
    assert beside.contributions[1] == 0.0 and beside.notes == {"vetoed": 1}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_where_nobody_helps_the_budget_is_kept(rule):
    """Equal rows of 2: any coalition ends at w = 2, as far from 1 as before: nothing is gained."""
    assert rule.settle(outcome([2.0, 2.0, 2.0])).total == 0
    assert rule.settle(outcome([-1.0, -1.0])).total == 0
    assert rule.settle(outcome([1.0, 1.0], accepted=[False, False])).total == 0
    assert rule.settle(outcome([])).total == 0


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_all_of_the_budget_is_paid_where_somebody_helps(rule):
    paid = rule.settle(outcome([1.0, 0.7, 0.5, -0.2, 0.1, 0.33, 0.9]))
    assert paid.total == sum(paid.amounts) == 600
    assert paid.amounts[3] == 0 and paid.contributions[3] < 0


def test_gtg_skips_a_round_of_little_gain():
    """All send 0.001: v(N) = 0.002 - 10^-6."""
    rows = [0.001] * 4
    assert GtgShapleyPay(600, round_truncation=0.01).settle(outcome(rows)).total == 0
    assert GtgShapleyPay(600, round_truncation=0.001).settle(outcome(rows)).total == 600


def test_history_is_handed_from_round_to_round():
    """Contributions (1, 0) and then (0, 1), halved each round: 1/2 : 1; summed: 1 : 1. Rows 1 and
    0 have the exact values 7/8 and -1/8, so after both rounds (7/16 - 1/8, 7/8 - 1/16)."""
    rule = ShapleyPay(600, pairs=None, history=0.5)
    first = rule.settle(outcome([1.0, 0.0]))
    second = rule.settle(outcome([0.0, 1.0], memory=first.memory))
    assert second.contributions == pytest.approx([5 / 16, 13 / 16])
    assert second.amounts == [167, 433]  # 600 * 5 / 18 = 166.67
    assert ShapleyPay(600, pairs=None).settle(outcome([1.0, 0.0])).memory == {}


def test_history_of_who_sits_out_is_kept_and_of_who_is_vetoed_fades():
    rule = ShapleyPay(600, pairs=None, history=0.5)
    memory = {"contributions": {3: 0.4, 8: 2.0}}
    paid = rule.settle(outcome([1.0, 1.0], [False, True], clients=[3, 5], memory=memory))
    assert paid.memory["contributions"] == pytest.approx({3: 0.2, 8: 2.0, 5: 1.0})
    assert paid.amounts == [0, 600]


def test_the_draws_come_from_the_rounds_generator():
    rows = [1.0, 0.3, -0.5, 0.8, 0.2]
    one, two = (ShapleyPay(pairs=2).settle(outcome(rows)) for _ in range(2))
    assert one.contributions == two.contributions


def test_evaluations_are_few():
    """Sampled: at most 2 pairs n, plus nobody and everybody; leave-one-out: n + 1."""
    calls = []

    def counted(model):
        calls.append(model)
        return {"accuracy": float(model[0]), "loss": 1.0}

    rows = torch.linspace(0, 1, 9).tolist()
    ShapleyPay(pairs=3, measure="accuracy").settle(outcome(rows, evaluate=counted))
    assert len(calls) <= 2 * 3 * 8 + 2
    calls.clear()
    LeaveOneOutPay(measure="accuracy").settle(outcome(rows, evaluate=counted))
    assert len(calls) == 10


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_all_ask_for_the_evaluation_and_say_so_without(rule):
    assert rule.needs == {"evaluate"}
    assert len(rule.announce(market([1, 2])).work) == 2
    with pytest.raises(ConfigError, match="measures contributions and got no evaluation"):
        rule.settle(outcome([1.0], evaluate=None))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeaveOneOutPay(measure="beauty"), "measure is one of accuracy, loss"),
        (lambda: ShapleyPay(pairs=0), "pairs must be a whole number of 1 or more, got 0"),
        (lambda: ShapleyPay(history=1.5), r"history must be finite and in \[0, 1\], got 1.5"),
        (lambda: ShapleyPay(truncation=float("nan")), "truncation must be finite and at least 0"),
        (lambda: GtgShapleyPay(tolerance=-1), "tolerance must be finite and at least 0, got -1"),
        (lambda: GtgShapleyPay(orders=0), "orders must be a whole number of 1 or more"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_exact_values_refuse_more_than_twelve_clients():
    with pytest.raises(ConfigError, match="at most 12 clients, got 13"):
        ShapleyPay(pairs=None).settle(outcome([1.0] * 13))


def test_more_help_more_pay():
    """Rows nearer to 1 earn more under every rule that measures."""
    for rule in (LeaveOneOutPay(10**6), ShapleyPay(10**6, pairs=None)):
        amounts = rule.settle(outcome([0.3, 0.5, 0.7, 0.9])).amounts
        assert all(a <= b for a, b in pairwise(amounts)) and amounts[-1] > amounts[0]
