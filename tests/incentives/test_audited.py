"""The instrument: it judges pay, it never changes it."""

import numpy as np
import pytest

from fedalign.core.errors import ConfigError
from incentives.audited import Audited, _levels
from incentives.proportional_pay import ProportionalPay
from incentives.shapley_pay import ShapleyPay
from incentives.uniform_pay import UniformPay
from tests.incentives.small_markets import market, outcome, parabola


def audited(rule, rows, **more):
    return Audited(rule).settle(outcome(rows, audit=parabola, **more))


@pytest.mark.parametrize("rule", [UniformPay(100), ShapleyPay(100), ShapleyPay(100, history=0.5)])
def test_pay_is_the_rules_own(rule):
    rows = [1.0, 0.5, 0.2, -1.0, 0.8]
    plain, judged = rule.settle(outcome(rows)), audited(rule, rows)
    assert judged.amounts == plain.amounts and judged.contributions == plain.contributions
    assert judged.memory["rule"] == plain.memory
    assert {k: judged.notes[k] for k in plain.notes} == plain.notes


def test_the_rule_never_sees_the_audit():
    class Nosy(UniformPay):
        def settle(self, after):
            assert after.audit is None and after.memory == {}
            return super().settle(after)

    audited(Nosy(10), [1.0, 0.5])


def test_pay_that_follows_worth_and_pay_that_runs_against_it():
    """Rows nearer to 1 are worth more. Samples 40 30 20 10 follow, 10 20 30 40 run against."""
    rows = [0.9, 0.6, 0.3, 0.0]
    with_it = audited(ProportionalPay(1000), rows, samples=[40, 30, 20, 10])
    against = audited(ProportionalPay(1000), rows, samples=[10, 20, 30, 40])
    assert with_it.notes["spearman"] == pytest.approx(1)
    assert against.notes["spearman"] == pytest.approx(-1)


def test_equal_pay_has_no_rank_even_where_rounding_sets_it_apart():
    """100 among three is 34 33 33: a unit of rounding is no judgement."""
    assert audited(UniformPay(100), [0.9, 0.5, 0.1]).notes["spearman"] is None
    assert audited(UniformPay(100), [0.9]).notes == {"vetoed": 0}


def test_levels():
    """Neighbours at most 2 apart are linked: 10 12 14 are one level, 20 the next."""
    assert _levels([14, 20, 10, 12], 2) == [0, 1, 0, 0]
    assert _levels([14, 20, 10, 12], 0) == [2, 3, 0, 1]


def test_sums_go_from_round_to_round_in_memory():
    rule = Audited(ProportionalPay(100))
    first = rule.settle(outcome([0.9, 0.1], audit=parabola, samples=[30, 70]))
    offer = rule.announce(market([0, 1], memory=first.memory))
    assert offer.memory["audit"] == first.memory["audit"]
    second = rule.settle(outcome([0.9, 0.1], audit=parabola, samples=[90, 10], memory=offer.memory))
    sums = second.memory["audit"]
    assert sums["paid"] == {0: 120, 1: 80} and sums["rounds"] == 2
    assert second.notes["spearman"] == pytest.approx(1)


def test_the_vetoed_are_judged_too():
    """A rule that vetoes the best: it earns 0 and is worth most."""
    judged = audited(UniformPay(100), [0.9, 0.1], accepted=[False, True])
    assert judged.amounts == [0, 100] and judged.notes["spearman"] == pytest.approx(-1)


def test_it_needs_the_rules_needs_and_the_audit():
    assert Audited(UniformPay()).needs == {"audit"}
    assert Audited(ShapleyPay()).needs == {"audit", "evaluate"}
    nobody = Audited(UniformPay()).settle(outcome([], audit=parabola))
    assert nobody.total == 0 and np.isfinite(nobody.total)
    with pytest.raises(ConfigError, match="pairs must be a whole number of 1 or more"):
        Audited(UniformPay(), pairs=0)
