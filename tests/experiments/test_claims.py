"""Claims judged on numbers made up to hold, to fail and to be absent."""

import dataclasses

import pytest

from experiments.claims import CLAIMS, check
from tests.experiments.synthetic_study import cell, grid, study

BY_ID = {claim.id: claim for claim in CLAIMS}
PASSED, BLOCKED = {"malicious_accepted": 4}, {"malicious_accepted": 0}


def calibrated():
    """Numbers of the calibration's default table, so that its verdicts must come out."""
    return grid(
        {
            "fedavg": {"none": 95, "sign_flip5": 11, "la": 94, "faker_norm": 15},
            "norm_filter": {
                "none": 95, "la": 94, "mb": 94, "neg": 10, "ipmfit": 63, "rejected": 95,
                "faker_balance": (22, PASSED), "faker_norm": (19, PASSED), "faker_flip": 54,
                "faker_2d": (78, PASSED),
            },
            "spp+norm_filter": {
                "none": 95, "faker_balance": (95, BLOCKED), "faker_norm": 20, "faker_flip": 54,
                "faker_2d": (78, PASSED), "neg": 10,
            },
            "spp_layerwise+norm_filter": {
                "none": 95, "faker_norm": 88, "faker_2d": 94, "faker_flip": 49,
                "faker_per_tensor": 31,
            },
            "krum": {
                "none": 91, "la": 92, "mb": 92, "fang": 11,
                "faker_distance_whitebox": (8, {"malicious_weight": 1.0}),
            },
            "spp+krum": {"none": 92, "faker_distance_whitebox": (80, {"malicious_weight": 0.48})},
            "fltrust": {
                "none": 95, "ipm10": 4, "la": 91, "mb": 95, "faker_flip": 84, "faker_norm": 96,
            },
            "spp+fltrust": {"none": 95, "faker_flip": 84},
            "fltrust_update": {"none": 93, "la": 93, "mb": 93, "faker_flip": 93, "ipm10": 93},
            "trimmed_mean": {"none": 94, "fang": 88, "faker_norm": 92, "gaussian": 93},
        },
        seeds=(0, 1, 2),
    )  # fmt: skip


EXPECTED = {
    "fedavg_sign_flip": "holds",
    "fedavg_mpaf": "not measured here",
    "coordinate_gaussian": "holds",
    "balance_rates": "holds",
    "2d_passes": "holds",
    "norm_filter_la_mb": "holds",
    "norm_filter_controls": "does not hold",
    "fltrust_la_mb": "holds",
    "fltrust_all": "does not hold",
    "fltrust_update": "does not hold",
    "fltrust_update_flat": "holds",
    "krum_la_mb": "holds",
    "krum_fang": "holds",
    "one_attacker": "not measured here",
    "one_round": "not measured here",
    "crafting_time": "does not hold",
    "spp_balance": "holds",
    "spp_spread_limit": "holds",
    "spp_krum": "holds",
    "spp_fltrust": "holds",
    "layerwise": "holds",
    "per_tensor": "holds",
    "other_rules": "does not hold",
}


def test_the_calibration_gets_the_calibrations_verdicts():
    found = {checked.claim.id: checked.verdict.outcome for checked in check(calibrated())}
    assert found == EXPECTED


def test_evidence_holds_this_studys_numbers():
    evidence = BY_ID["norm_filter_la_mb"](calibrated()).evidence
    assert "faker_norm 19.0±0.0" in evidence and "la 94.0±0.0" in evidence
    evidence = BY_ID["balance_rates"](calibrated()).evidence
    assert "norm_filter 100.0±0.0, spp+norm_filter 0.0±0.0" in evidence


def test_an_empty_study_measures_nothing():
    made = grid({"fedavg": {"none": 95}})
    assert {c.verdict.outcome for c in check(made)} == {"not measured here"}
    assert BY_ID["fltrust_la_mb"](made).evidence == "needs fltrust under any Faker"


def test_failed_cells_are_not_measured():
    cells = [
        cell({"attack": "none", "defense": "fedavg"}, 0, 0.9),
        cell({"attack": "sign_flip5", "defense": "fedavg"}, 0, status="failed", reason="boom"),
    ]
    verdict = BY_ID["fedavg_sign_flip"](study(cells))
    assert verdict.outcome == "not measured here" and "sign_flip5" in verdict.evidence


@pytest.mark.parametrize(
    "accuracy, outcome", [(40, "holds"), (47.4, "holds"), (47.6, "does not hold")]
)
def test_to_break_a_rule_is_to_halve_its_accuracy(accuracy, outcome):
    made = grid({"fedavg": {"none": 95, "sign_flip5": accuracy}})
    assert BY_ID["fedavg_sign_flip"](made).outcome == outcome


def test_a_difference_within_the_spread_of_the_seeds_does_not_count():
    """Faker 80, 90, 100 against 92 for LA and MB: better on average, not beyond the spread."""
    cells = [
        cell({"attack": a, "defense": "krum"}, s, v)
        for a, values in (("faker_norm", (0.8, 0.9, 1.0)), ("la", (0.92,) * 3), ("mb", (0.92,) * 3))
        for s, v in enumerate(values)
    ]
    assert BY_ID["krum_la_mb"](study(cells)).outcome == "does not hold"


@pytest.mark.parametrize("removed, outcome", [(70, "holds"), (63, "does not hold")])
def test_what_removing_the_attackers_moves_is_no_effect_of_an_attack(removed, outcome):
    """Faker takes 5 points more than LA and MB; removing the attackers alone moves 0 or 7."""
    made = grid({"krum": {"none": 70, "rejected": removed, "la": 65, "mb": 65, "faker_norm": 60}})
    assert BY_ID["krum_la_mb"](made).outcome == outcome


def test_one_attacker_is_read_from_the_config():
    single = {"clients": 20, "byzantine_fraction": 0.05}
    made = grid({"krum": {"none": 91, "faker_norm": 12}}, config=single)
    assert BY_ID["one_attacker"](made).outcome == "holds"
    assert BY_ID["one_round"](made).outcome == "not measured here"


def test_one_round_is_read_from_when_something_was_crafted():
    once = {"craft_s": [0, 0, 0.01, 0, 0]}
    made = grid({"norm_filter": {"none": 91, "faker_norm": (90, once)}})
    assert BY_ID["one_round"](made).outcome == "does not hold"
    deep = grid({"norm_filter": {"none": 91, "faker_norm": (60, once)}})
    assert BY_ID["one_round"](deep).outcome == "holds"


def test_one_shot_and_one_attacker_are_taken_from_what_the_run_states():
    made = grid({"norm_filter": {"none": 91, "faker_norm": 90}}, config={"attack_rounds": 1})
    assert BY_ID["one_round"](made).outcome == "does not hold"
    facts = [dataclasses.replace(c, facts={"byzantine": 1}) for c in made.cells]
    assert BY_ID["one_attacker"](study(facts)).outcome == "does not hold"


def test_crafting_is_faster_only_if_every_mode_is():
    def times(slowest):
        return grid(
            {
                "norm_filter": {
                    "la": (94, {"craft_s": 0.003}),
                    "min_max": (94, {"craft_s": 0.009}),
                    "faker_norm": (94, {"craft_s": 0.001}),
                    "faker_2d": (94, {"craft_s": slowest}),
                }
            }
        )

    assert BY_ID["crafting_time"](times(0.002)).outcome == "holds"
    assert BY_ID["crafting_time"](times(0.004)).outcome == "does not hold"


def test_spp_that_lets_balanced_faker_pass_is_shown():
    made = grid({
        "norm_filter": {"none": 95, "faker_balance": (22, PASSED)},
        "spp+norm_filter": {"none": 95, "faker_balance": (22, PASSED)},
    })  # fmt: skip
    assert BY_ID["balance_rates"](made).outcome == "does not hold"
    assert BY_ID["spp_balance"](made).outcome == "does not hold"


def test_each_panel_is_judged_on_its_own_cells():
    cells = [
        cell({"attack": a, "defense": "fedavg", "partition": p}, 0, v)
        for p, low in (("iid", 0.1), ("classes", 0.9))
        for a, v in (("none", 0.95), ("sign_flip5", low))
    ]
    found = [c for c in check(study(cells)) if c.claim.id == "fedavg_sign_flip"]
    assert [(c.where["partition"], c.verdict.outcome) for c in found] == [
        ("iid", "holds"), ("classes", "does not hold"),
    ]  # fmt: skip


def test_claims_have_names_of_their_own_and_whole_sentences():
    assert len(BY_ID) == len(CLAIMS)
    assert all(claim.sentence.endswith(".") and claim.source for claim in CLAIMS)
