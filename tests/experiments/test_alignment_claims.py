"""Claims about alignment judged on numbers made up to hold, to fail and to be too few."""

import re
from pathlib import Path

import pytest

from experiments.alignment_claims import ALIGNMENT, known
from experiments.claims import check
from experiments.run_folder import load_yaml
from fedalign.core.errors import UnknownNameError
from tests.experiments.synthetic_study import cell, study

SCENARIOS = Path(__file__).parents[2] / "experiments/conf/scenario"
ERROR = "data.annotator.error"


def noisy(gaps, seeds=3, rate="0.4"):
    """dpo against rdpo and dr_dpo: gold 4 and 4 + gap, seed by seed; the loss's own axis reaches
    the robust ones only."""
    cells = []
    for objective, gap in {"dpo": [0.0] * seeds, **gaps}.items():
        own = "—" if objective == "dpo" else "0.4"
        for seed in range(seeds):
            axes = {"objective": objective, ERROR: rate, "objective.error": own}
            cells.append(cell(axes, seed, gold_reward=4 + seed + gap[seed]))
    return study(cells)


def verdict(made, id):
    (found,) = check(made, [id])
    return found.verdict


def test_a_paired_difference_holds_where_its_interval_is_above_zero():
    """Seeds differ by whole points, the pairs by .1 to .12; the better of the two rivals counts."""
    found = verdict(noisy({"rdpo": [0.1, 0.12, 0.11], "dr_dpo": [-1, -1, -1]}), "noise_robust")
    assert found.outcome == "holds"
    assert (
        "rdpo 0.4 minus dpo 0.4: +0.110 ± 0.010, interval [+0.085, +0.135], n = 3" in found.evidence
    )
    found = verdict(noisy({"rdpo": [0.1, -0.1, 0.2], "dr_dpo": [0, 0, 0]}), "noise_robust")
    assert found.outcome == "does not hold"


def test_two_seeds_or_another_grid_are_not_measured():
    found = verdict(noisy({"rdpo": [0.1, 0.1]}, seeds=2), "noise_robust")
    assert found.outcome == "not measured here" and "2 there" in found.evidence
    found = verdict(noisy({"rdpo": [0.1] * 3}, rate="0.2"), "noise_robust")
    assert found.outcome == "not measured here" and "rdpo 0.4 or dr_dpo 0.4" in found.evidence


def test_two_columns_of_the_same_runs():
    """Attack success with and without the trigger; a number; less is better."""
    place = {"attack": "preference_backdoor", "defense": "fedavg", "algorithm": "fedavg"}
    rows = [cell(place, s, attack_success=0.9 + s / 100, success_clean=0.2) for s in range(3)]
    assert verdict(study(rows), "backdoor").outcome == "holds"
    wins = [cell({"objective": "dpo", ERROR: "0.0"}, s, win_low=0.49) for s in range(3)]
    assert verdict(study(wins), "dpo_wins").outcome == "does not hold"
    safety = [
        cell({"attack": "safety_attack", "defense": "fedavg", "algorithm": a}, s,
             harmful_compliance=value + s / 100)
        for a, value in (("fedavg", 0.9), ("posthoc_realign", 0.1)) for s in range(3)
    ]  # fmt: skip
    assert verdict(study(safety), "realigned").outcome == "holds"


def test_what_a_study_does_not_vary_counts_as_well():
    config = {"data": {"annotator": {"error": 0.0}}}
    cells = [cell({}, s, config=config, choices={"objective": "dpo"}, gold_gain=0.3 + s / 100)
             for s in range(3)]  # fmt: skip
    assert verdict(study(cells), "dpo_gain").outcome == "holds"
    assert verdict(study(cells), "noise_robust").outcome == "not measured here"


def test_every_claim_is_asked_by_one_scenario_whose_grid_has_its_axes():
    asked = {}
    for path in SCENARIOS.glob("*.yaml"):
        ids = load_yaml(path).get("report", {}).get("claims", ())
        asked |= {} if isinstance(ids, str) else dict.fromkeys(ids, path)
    assert set(asked) == {claim.id for claim in ALIGNMENT}
    for claim in ALIGNMENT:
        assert known(claim.id) is claim and re.match(r"^[A-Z].*\.$", claim.sentence)
    with pytest.raises(UnknownNameError, match="claim"):
        known("dpo_gian")
