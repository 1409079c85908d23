"""Means, intervals, worst cases and ratios, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from experiments.metrics import metric
from experiments.results import grouped
from experiments.statistics import (
    Scores,
    bootstrap,
    faker_ratio,
    iqm,
    is_faker,
    robustness,
    summarise,
)
from tests.experiments.synthetic_study import cell, grid


def column(made, defense):
    groups = grouped(made.cells, ("defense", "attack"))
    return {a: groups.get((defense, a), ()) for a in made.axes["attack"]}


def test_mean_and_population_std_over_seeds():
    """90, 92, 97: mean 93, deviations -3, -1, 4, variance 26 / 3."""
    cells = [cell({}, seed, accuracy) for seed, accuracy in enumerate((0.90, 0.92, 0.97))]
    found = summarise(cells, metric("accuracy"))
    assert found.count == 3 and found.mean == pytest.approx(93.0, abs=1e-12)
    assert found.std == pytest.approx((26 / 3) ** 0.5, abs=1e-12)


def test_unfinished_seeds_are_left_out():
    cells = [cell({}, 0, 0.9), cell({}, 1, status="failed"), cell({}, 2, status="missing")]
    assert summarise(cells, metric("accuracy")).by_seed == {0: pytest.approx(90.0)}
    nothing = summarise(cells[1:], metric("accuracy"))
    assert nothing.count == 0 and np.isnan(nothing.mean) and np.isnan(nothing.std)


def test_iqm_drops_a_quarter_at_each_end():
    """Of 8 values the 2 smallest and 2 largest go: (3 + 4 + 5 + 6) / 4."""
    assert iqm(np.array([100.0, 1, 2, 3, 4, 5, 6, -50])) == (2 + 3 + 4 + 5) / 4
    assert iqm(np.array([1.0, 2.0, 6.0])) == 3.0  # below four nothing is dropped


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=40))
def test_iqm_is_the_trimmed_mean_of_scipy(values):
    assert iqm(np.array(values)) == pytest.approx(trim_mean(values, 0.25), abs=1e-9)


def test_no_interval_below_three_seeds():
    assert bootstrap([np.array([1.0, 2.0])]) is None
    assert bootstrap([np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0])]) is None
    assert bootstrap([]) is None
    assert Scores({0: 1.0, 1: 2.0}).interval is None


def test_the_interval_is_stratified():
    """Each attack's seeds agree, so resampling within attacks cannot move anything: the interval
    is a point, although the attacks lie 80 apart. Drawing over attacks would have widened it."""
    found = bootstrap([np.full(3, 10.0), np.full(3, 90.0)])
    assert (found.low, found.iqm, found.high) == (50.0, 50.0, 50.0)


def test_the_bootstrap_of_three_seeds_by_enumeration():
    """The 27 equally likely samples of (0, 3, 9) have means in [0, 9]; a sample of three zeros has
    probability 1/27 = 3.7 % > 2.5 %, so both ends of the interval are the extremes themselves."""
    found = bootstrap([np.array([0.0, 3.0, 9.0])])
    assert (found.low, found.iqm, found.high) == (0.0, 4.0, 9.0)


@given(st.lists(st.lists(st.floats(0, 100), min_size=3, max_size=5), min_size=1, max_size=4))
def test_intervals_lie_within_the_data_and_are_the_same_each_time(strata):
    strata = [np.array(s) for s in strata]
    found = bootstrap(strata, repetitions=200)
    everything = np.concatenate(strata)
    assert everything.min() - 1e-9 <= found.low <= found.high <= everything.max() + 1e-9
    assert found == bootstrap(strata, repetitions=200)


def test_another_generator_gives_another_draw():
    strata = [np.arange(9.0), np.arange(9.0) ** 2]
    drawn = [bootstrap(strata, rng=np.random.default_rng(s), repetitions=50) for s in range(3)]
    assert len({d.low for d in drawn}) > 1 and len({d.iqm for d in drawn}) == 1


def test_the_worst_case_leaves_controls_out_and_says_so():
    made = grid({"krum": {"none": 95, "la": 60, "mb": 40, "neg": 10, "rejected": 5}})
    found = robustness(column(made, "krum"))
    assert found.clean.mean == pytest.approx(95.0)
    assert (found.worst.attack, found.worst.accuracy.mean) == ("mb", pytest.approx(40.0))
    assert found.worst_control.attack == "neg"  # attackers removed is no attack at all
    assert found.removed.mean == pytest.approx(5.0)
    assert found.interval is None  # one seed


def test_the_worst_case_with_ties_is_the_first_asked_for():
    made = grid({"krum": {"none": 95, "mb": 40, "la": 40}})
    assert robustness(column(made, "krum")).worst.attack == "mb"


def test_the_interval_of_a_defense_covers_its_attacks_only():
    """Attacks 50 and 70, three equal seeds: 60. None (95) and neg (0) do not enter."""
    made = grid({"krum": {"none": 95, "la": 50, "mb": 70, "neg": 0}}, seeds=(0, 1, 2))
    assert robustness(column(made, "krum")).interval.iqm == pytest.approx(60.0)


def test_a_defense_that_nothing_was_measured_for():
    found = robustness({"none": [cell({}, status="failed")], "la": []})
    assert found.worst is None and found.interval is None and found.clean.count == 0


def test_faker_ratio_by_hand():
    """Clean 95. Faker: 95 - 15 = 80 and 95 - 50 = 45 points; others: 95 - 75 = 20 and 1.
    80 / 20 = 4. Times: 5 ms of sign_flip against 2 ms of faker_norm: 2.5."""
    made = grid(
        {
            "fedavg": {
                "none": 95,
                "sign_flip5": (75, {"craft_s": 0.005}),
                "la": 94,
                "faker_flip": 50,
                "faker_norm": (15, {"craft_s": 0.002}),
                "neg": 2,  # a control: stronger, but never the best other attack
            }
        },
        seeds=(0, 1),
    )
    found = faker_ratio(column(made, "fedavg"))
    assert (found.faker.attack, found.other.attack) == ("faker_norm", "sign_flip5")
    assert found.faker.reduction.mean == pytest.approx(80.0)
    assert found.reduction == pytest.approx(4.0) and found.time == pytest.approx(2.5)


def test_reductions_are_paired_by_seed():
    """Seed 0 loses 90 - 80 = 10, seed 1 loses 50 - 40 = 10: no spread, although accuracies differ
    by 40 points. A seed without its unattacked run is left out."""
    made = {
        "none": [cell({}, 0, 0.9), cell({}, 1, 0.5), cell({}, 2, status="failed")],
        "faker_norm": [cell({}, 0, 0.8), cell({}, 1, 0.4), cell({}, 2, 0.1)],
    }
    found = faker_ratio(made).faker.reduction
    assert found.mean == pytest.approx(10.0) and found.std == pytest.approx(0.0, abs=1e-9)
    assert sorted(found.by_seed) == [0, 1]


@pytest.mark.parametrize("faker, other", [(96, 40), (40, 96), (96, 96), (40, 95)])
def test_no_ratio_where_a_reduction_is_not_positive(faker, other):
    made = grid({"fedavg": {"none": 95, "la": other, "faker_norm": faker}})
    assert np.isnan(faker_ratio(column(made, "fedavg")).reduction)


def test_no_ratio_without_a_clean_run_or_a_rival():
    made = grid({"fedavg": {"la": 50, "faker_norm": 40}})
    found = faker_ratio(column(made, "fedavg"))
    assert found.faker is None and found.other is None
    alone = faker_ratio(column(grid({"fedavg": {"none": 95, "faker_norm": 40}}), "fedavg"))
    assert alone.other is None and np.isnan(alone.reduction) and np.isnan(alone.time)


def test_no_time_ratio_where_nothing_was_crafted():
    made = grid({"fedavg": {"none": 95, "la": (50, {"craft_s": 0.0}), "faker_norm": 40}})
    assert np.isnan(faker_ratio(column(made, "fedavg")).time)


def test_what_counts_as_faker():
    assert is_faker("faker") and is_faker("faker_2d") and not is_faker("la")
