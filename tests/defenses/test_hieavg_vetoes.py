"""HieAvg around a robust rule: who is rejected counts as missing and leaves no trace."""

import numpy as np
import pytest
import torch

from defenses.dnc import DnC
from defenses.fedavg import FedAvg
from defenses.flame import FLAME
from defenses.fltrust import FLTrust
from defenses.geometric_median import GeometricMedian
from defenses.hieavg import HieAvg
from defenses.krum import Krum
from defenses.meamed import Meamed
from defenses.median import Median
from defenses.multi_krum import MultiKrum
from defenses.norm_filter import NormFilter
from defenses.pre.nnm import NNM
from defenses.spp import SPP
from defenses.trimmed_mean import TrimmedMean
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError
from tests.defenses.members import play

FILTER = NormFilter(lower=0.0, factor=2.0, space="update")


def crowd(rounds, liar=None, value=50.0, n=7, d=6, seed=0):
    """n members near (r, ..., r); `liar` = {round: member} sends a long row instead."""
    rng = np.random.default_rng(seed)
    sent = {
        r: {u: r + 0.1 * rng.standard_normal(d) for u in range(n)} for r in range(1, rounds + 1)
    }
    for r, u in (liar or {}).items():
        sent[r][u] = np.full(d, value)
    return sent


def moving(r):
    return torch.full((6,), r - 1.0, dtype=torch.float64)


def test_a_vetoed_row_counts_as_missing_and_enters_no_history():
    """Member 3 lies in round 4 with rows as long as they like: the model does not depend on it,
    nor does any later one."""
    for rule in (HieAvg(rule=FILTER), HieAvg(rule=MultiKrum(byzantine_count=1))):
        small, large = (play(rule, crowd(6, {4: 3}, value), moving) for value in (500.0, 9e9))
        for r in range(1, 7):
            assert torch.equal(small[r][0], large[r][0])
        decided = small[4][1]
        assert 3 in decided.notes["vetoed"] and not decided.accepted[3]
        assert decided.notes["estimated"][3]["misses"] == 1
        assert torch.allclose(small[4][0], torch.full((6,), 4.0, dtype=torch.float64), atol=0.2)
        trail = decided.memory["members"][3]["trail"]
        assert [entry["round"] for entry in trail] == [1, 3]


def test_estimates_of_the_absent_are_not_judged():
    """The rule sees rows of members that arrived, nothing else."""
    seen = []

    class Spy(MultiKrum):
        def __call__(self, updates, context=Context()):
            seen.append(len(updates))
            return super().__call__(updates, context)

    sent = crowd(4)
    sent[4] = {u: x for u, x in sent[4].items() if u > 1}
    rule = HieAvg(rule=Spy(byzantine_count=1))
    seen.clear()
    notes = play(rule, sent, moving)[4][1].notes
    assert seen == [7, 7, 7, 5] and {0, 1} <= set(notes["estimated"])


def test_the_untrusted_may_be_left_out():
    rule = HieAvg(rule=FILTER, estimate_only_if_trusted=True)
    found = play(rule, crowd(5, {4: 3}), moving)
    assert found[4][1].notes["excluded"] == [3] and found[5][1].notes["excluded"] == []


def test_the_rules_memory_goes_round():
    rule = HieAvg(rule=MultiKrum(byzantine_count=1))
    memory = play(rule, crowd(3), moving)[3][1].memory
    assert set(memory) == {"rule", "starts", "members"}


def test_late_rows_are_no_way_past_the_rule():
    sent = crowd(4)
    del sent[3][0], sent[4][0]
    poison = {4: {0: (3, (9e9,) * 6)}}
    ours, plain = (play(HieAvg(rule=FILTER), sent, moving, late=late) for late in (poison, None))
    assert torch.equal(ours[4][0], plain[4][0])


def test_a_member_that_submits_a_long_step_and_vanishes_is_clipped():
    """The estimate of a vanished member may carry its own last row, v, and damp / (1 - damp) times
    1.5 median Delta beyond it, times its weight; without the clip, as much again of v."""
    v = 100.0
    sent = crowd(6, n=5, d=1)
    sent[3][4] = sent[2][4] + v
    for r in (4, 5, 6):
        del sent[r][4]
    base = lambda r: torch.full((1,), r - 1.0, dtype=torch.float64)  # noqa: E731
    honest = {r: {u: x for u, x in s.items()} for r, s in sent.items()}
    honest[3] = {**honest[3], 4: sent[2][4] + 1.0}
    clipped, free = HieAvg(delta_clip=1.5), HieAvg()
    for r in (4, 5, 6):
        moved = [
            (play(rule, sent, base)[r][0] - play(rule, honest, base)[r][0]).abs().item()
            for rule in (clipped, free)
        ]
        weight = play(clipped, sent, base)[r][1].notes["estimated"][4]["weight"]
        assert moved[0] <= weight * (v + 1.0 * 1.5 * 1.2) < moved[1]


@pytest.mark.parametrize("rule", [Krum(), SPP(Krum()), Krum(byzantine_count=5)])
def test_around_a_rule_that_takes_one_row_it_is_refused(rule):
    with pytest.raises(ConfigError, match="takes one row, so that everybody else"):
        HieAvg(rule=rule)


@pytest.mark.parametrize("rule", [FedAvg(), Median(), TrimmedMean(), Meamed()])
def test_around_a_rule_that_rejects_nobody_it_is_refused(rule):
    with pytest.raises(ConfigError, match="rejects none"):
        HieAvg(rule=rule)


@pytest.mark.parametrize(
    "rule",
    [
        MultiKrum(),
        SPP(MultiKrum()),
        NormFilter(),
        SPP(FILTER),
        FLTrust(),
        FLAME(),
        DnC(),
        NNM(Krum()),
        GeometricMedian(),
    ],
)
def test_around_a_rule_that_names_whom_it_rejects_it_is_taken(rule):
    wrapped = HieAvg(rule=rule)
    assert (wrapped.space, wrapped.family, wrapped.needs) == (rule.space, rule.family, rule.needs)
    assert wrapped.minimum(2) == rule.minimum(2)
