"""One number per run."""

import numpy as np
import pytest

from experiments.metrics import METRICS, metric
from experiments.scores import attack_of
from fedalign.core.errors import UnknownNameError
from tests.experiments.synthetic_study import cell, rounds


def value(name, one):
    return metric(name)(one)


def test_accuracy_is_the_mean_of_the_last_three_rounds():
    """(0.6 + 0.7 + 0.8) / 3 = 0.7."""
    one = cell({}, accuracy=[0.1, 0.2, 0.6, 0.7, 0.8])
    assert value("accuracy", one) == pytest.approx(70.0, abs=1e-12)
    assert value("error", one) == pytest.approx(30.0, abs=1e-12)
    assert value("best_accuracy", one) == pytest.approx(80.0, abs=1e-12)


def test_rounds_without_evaluation_do_not_count():
    """Evaluated: 0.2, 0.4, 0.6, 0.9; the last three give 1.9 / 3."""
    one = cell({}, accuracy=[0.2, np.nan, 0.4, 0.6, np.nan, 0.9, np.nan])
    assert value("accuracy", one) == pytest.approx(190.0 / 3.0, abs=1e-12)


def test_fewer_rounds_than_three():
    assert value("accuracy", cell({}, accuracy=[0.5, 0.7])) == pytest.approx(60.0, abs=1e-12)


def test_damage_is_measured_from_the_round_before_the_attack():
    """Attack from round 4: t0 is round 3 with 0.8; the end is (0.5 + 0.3 + 0.1) / 3 = 0.3."""
    one = cell({}, accuracy=[0.2, 0.5, 0.8, 0.5, 0.3, 0.1], config={"attack_start": 4})
    assert value("damage", one) == pytest.approx(30.0 - 80.0, abs=1e-12)


def test_damage_of_an_attack_from_the_start_is_measured_from_round_one():
    one = cell({}, accuracy=[0.2, 0.5, 0.8, 0.8, 0.8], config={"attack_start": 1})
    assert value("damage", one) == pytest.approx(60.0, abs=1e-12)


def test_damage_takes_the_last_evaluated_round_before_the_attack():
    one = cell({}, accuracy=[0.2, 0.5, np.nan, 0.9, 0.9, 0.9], config={"attack_start": 4})
    assert value("damage", one) == pytest.approx(40.0, abs=1e-12)


def test_a_frozen_model_shows_no_damage():
    """Accuracy 0.12 from beginning to end is no destruction, only a model that never learns."""
    assert value("damage", cell({}, accuracy=0.12)) == 0.0


def test_accuracy_at_the_first_attacked_round_and_five_later():
    accuracy = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    one = cell({}, accuracy=accuracy, config={"attack_start": 3})
    assert value("accuracy_t0", one) == pytest.approx(30.0)
    assert value("accuracy_t0_5", one) == pytest.approx(80.0)
    late = cell({}, accuracy=accuracy, config={"attack_start": 4})
    assert np.isnan(value("accuracy_t0_5", late))  # round 9 of 8


def test_detection_counts_only_attacked_rounds():
    """From round 3: 4 + 4 + 4 sent, 4 + 0 + 2 accepted: 6 / 12. Benign: 48 sent, 36 accepted."""
    one = cell(
        {"attack": "neg"},
        malicious_sent=[0, 4, 4, 4, 4],
        malicious_accepted=[0, 4, 4, 0, 2],
        benign_sent=16,
        benign_accepted=[0, 0, 16, 16, 4],
        accuracy=[0.5] * 5,
        config={"attack_start": 3},
    )
    assert value("accepted", one) == 50.0
    assert value("tpr", one) == 50.0
    assert value("fpr", one) == 25.0


def test_one_shot_counts_the_attacked_round_alone():
    """Attacked clients send honest rows before and after: those are no detections. Round 3 only:
    1 of 4 accepted, 6 ms, and a weight of 0.2."""
    one = cell(
        {"attack": "neg"},
        accuracy=[0.5] * 5,
        malicious_accepted=[4, 4, 1, 4, 4],
        malicious_weight=[0.05, 0.05, 0.2, 0.05, 0.05],
        craft_s=[0.001, 0.001, 0.006, 0.001, 0.001],
        config={"attack_start": 3, "attack_rounds": 1},
    )
    assert value("tpr", one) == 75.0
    assert value("craft_ms", one) == pytest.approx(6.0) and value("weight", one) == pytest.approx(
        20
    )


def test_the_attack_is_known_also_where_it_is_no_axis():
    named = {"attack": {"_target_": "attacks.none.NoAttack"}}
    assert attack_of(cell({}, config=named)) == "none"
    assert attack_of(cell({"attack": "faker_2d"}, config=named)) == "faker_2d"
    assert attack_of(cell({})) == ""
    assert np.isnan(value("tpr", cell({}, config=named)))


def test_nothing_malicious_is_no_detection_rate():
    for one in (cell({"attack": "none"}), cell({"attack": "rejected"}, malicious_sent=0)):
        assert np.isnan(value("tpr", one)) and np.isnan(value("weight", one))
        assert value("fpr", one) == 0.0


def test_weight_is_the_mean_share_over_attacked_rounds_that_had_weights():
    one = cell({}, accuracy=[0.5] * 4, malicious_weight=[0.0, 0.2, np.nan, 0.4],
               config={"attack_start": 2})  # fmt: skip
    assert value("weight", one) == pytest.approx(30.0, abs=1e-12)


def test_crafting_time_ignores_idle_rounds():
    one = cell({}, accuracy=[0.5] * 4, craft_s=[0.0, 0.002, 0.004, 0.0])
    assert value("craft_ms", one) == pytest.approx(3.0, abs=1e-12)


def test_totals_and_times():
    one = cell({}, accuracy=[0.5] * 3, nonfinite=[4, 0, 1], skipped=[0, 1, 1], aggregate_s=0.002)
    assert (value("nonfinite", one), value("skipped", one)) == (5.0, 2.0)
    assert value("aggregate_ms", one) == pytest.approx(2.0, abs=1e-12)


@pytest.mark.parametrize("status", ["failed", "missing"])
def test_a_run_that_is_not_done_has_no_number(status):
    assert all(np.isnan(m(cell({}, status=status))) for m in METRICS.values())


def test_columns_that_were_not_recorded_are_nan_not_an_error():
    bare = cell({}, status="missing")
    bare = type(bare)(**{**vars(bare), "status": "done", "rounds": {"round": rounds(0.5)["round"]}})
    assert all(np.isnan(m(bare)) for m in METRICS.values())


def test_an_unknown_metric_lists_what_exists():
    with pytest.raises(UnknownNameError, match="Did you mean 'accuracy'"):
        metric("acuracy")


def test_what_attackers_earn_is_counted_from_the_attacks_start():
    """Rounds 2 and 3: 30 + 0 of 100 + 50. An honest first round does not count."""
    one = cell(
        {}, accuracy=[0.5] * 3, paid=[100, 100, 50], paid_malicious=[20, 30, 0],
        config={"attack_start": 2},
    )  # fmt: skip
    assert value("attacker_income", one) == pytest.approx(20.0, abs=1e-12)
    assert value("paid", one) == pytest.approx(250 / 3, abs=1e-12)


def test_where_nothing_is_paid_there_is_no_income_and_no_price():
    one = cell({}, paid=0, paid_malicious=0, clock_s=0)
    assert value("paid", one) == 0.0
    for name in ("attacker_income", "cost_per_point", "seconds_per_round"):
        assert np.isnan(value(name, one))


def test_a_points_price_is_all_that_was_paid_over_the_final_accuracy():
    """4 x 30 units for (0.4 + 0.6 + 0.8) / 3 = 60 points: 2 units each."""
    one = cell({}, accuracy=[0.1, 0.4, 0.6, 0.8], paid=30)
    assert value("cost_per_point", one) == pytest.approx(2.0, abs=1e-12)


def test_the_clock_is_read_at_the_end():
    """12 simulated seconds after 4 rounds."""
    one = cell({}, accuracy=[0.5] * 4, clock_s=[2, 5, 7, 12])
    assert value("seconds_per_round", one) == 3.0


def test_the_rank_correlation_is_of_the_sums_so_far():
    """The last round in which it is known speaks for the run."""
    one = cell({}, accuracy=[0.5] * 4, pay_spearman=[np.nan, -0.2, 0.7, np.nan])
    assert value("pay_spearman", one) == 0.7
    assert np.isnan(value("pay_spearman", cell({}, pay_spearman=np.nan)))


def test_the_share_of_consensus_leaves_consensus_out_of_the_rest():
    """Per round 4 s of training, 1 s of crafting, 3 s of aggregation of which 2 s agree: 2 / 6."""
    one = cell({}, accuracy=[0.5, 0.6])
    for name, seconds in (("train_s", 4.0), ("craft_s", 1.0), ("aggregate_s", 3.0)):
        one.rounds[name] = np.full(2, seconds)
    assert np.isnan(value("consensus_share", one))
    one.rounds["consensus_cpu_s"] = np.full(2, 2.0)
    assert value("consensus_share", one) == pytest.approx(100.0 / 3.0, abs=1e-12)


def test_overoptimisation_is_read_from_the_way_a_run_took():
    """d = 1, 2, 3 with gains 1.0, 1.5, .9 on a base of 4: the peak is 5.5 at d = 2, .6 are lost."""
    gains = np.array([1.0, 1.5, 0.9])
    one = cell(
        {}, accuracy=[0.5] * 3, kl_ref_k3=[1.0, 4.0, 9.0], gold_reward=4 + gains, gold_gain=gains
    )
    found = [value(n, one) for n in ("gold_peak", "peak_distance", "distance", "gold_drop")]
    assert found == pytest.approx([5.5, 2.0, 3.0, 0.6])
    away = np.array([0.5, 1.0, 2.0, 3.0])
    exact = away * (1.2 - 0.7 * np.log(away))
    two = cell({}, accuracy=[0.5] * 4, kl_ref_k3=away**2, gold_reward=exact, gold_gain=exact)
    assert (value("alpha", two), value("beta", two)) == pytest.approx((1.2, 0.7))
    worse = cell({}, accuracy=[0.5] * 2, kl_ref_k3=[1, 4], gold_reward=[3, 2], gold_gain=[-1, -2])
    assert (value("gold_peak", worse), value("peak_distance", worse)) == (4.0, 0.0)
    assert np.isnan(value("alpha", worse)) and np.isnan(value("gold_peak", cell({})))
