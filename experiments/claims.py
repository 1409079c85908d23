"""Claims: what papers say and what this study measured, as a check list.

The sanity expectations of the benchmark protocol and the claims made for Faker and SPP stand here,
those about alignment in alignment_claims.py, each judged on the study's own numbers. What does not
reproduce is shown, not hidden; what the grid does not contain is "not measured here". Where a claim
names "Faker", its best mode counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.alignment_claims import known
from experiments.claim import Claim, Verdict
from experiments.judges import (
    COORDINATE,
    FILTER,
    balance_is_caught,
    balance_is_harmless,
    beats,
    breaks,
    faster,
    layerwise,
    on_other_rules,
    one_attacker,
    one_round,
    per_tensor,
    spp_fltrust,
    spp_krum,
    spread_is_not_stopped,
    strongest,
    survives,
    two_d_passes,
    update_space_fltrust,
)
from experiments.results import StudyResults, panels


@dataclass(frozen=True)
class Checked:
    """A claim with its verdict in one panel of the study. where: the values of its other axes."""

    claim: Claim
    verdict: Verdict
    where: Mapping[str, str]


def check(study: StudyResults, asked: str | Sequence[str] = "faker") -> list[Checked]:
    """faker: every claim of the study, judged in every panel (combination of axes besides attack
    and defense). Ids of claims about alignment: those, judged on the whole study."""
    if asked == "faker":
        cut, claims = panels(study, ("defense", "attack")), CLAIMS
    else:
        cut, claims = [({}, study.cells)], [known(name) for name in asked]
    return [Checked(claim, claim(study, cells), where) for where, cells in cut for claim in claims]


def counts(asked: str | Sequence[str]) -> str:
    """What counts as a difference among these claims."""
    if asked == "faker":
        return (
            "Accuracy in %. A difference counts when it exceeds one point, the two spreads over "
            "seeds together and what merely removing the attackers moves."
        )
    return (
        "Differences are taken seed by seed, mean ± standard deviation; one counts when the 95 % "
        "t-interval of its mean lies above 0, for which it takes three seeds."
    )


PROTOCOL, FAKER, OURS = "benchmark protocol", "Faker and SPP papers", "our calibration"
CLAIMS: Sequence[Claim] = (
    Claim(
        "fedavg_sign_flip",
        "FedAvg fails under sign flip x5 (accuracy at most half).",
        PROTOCOL,
        breaks("fedavg", "sign_flip5"),
    ),
    Claim("fedavg_mpaf", "FedAvg fails under MPAF.", PROTOCOL, breaks("fedavg", "mpaf10", "mpaf")),
    Claim(
        "coordinate_gaussian",
        "Coordinate-wise rules survive Gaussian noise.",
        PROTOCOL,
        survives(COORDINATE, "gaussian"),
    ),
    Claim(
        "balance_rates",
        "Balanced Faker passes the full norm filter nearly always and SPP around it never.",
        PROTOCOL,
        balance_is_caught,
    ),
    Claim(
        "2d_passes",
        "Faker-2D passes the norm filter and SPP around it (documented limit).",
        PROTOCOL,
        two_d_passes,
    ),
    Claim(
        "norm_filter_la_mb",
        "Faker beats LA and MB (as published) on the norm filter.",
        FAKER,
        beats(FILTER, ("la", "mb")),
    ),
    Claim(
        "norm_filter_controls",
        "Faker beats also the one-scalar controls (neg, ipmfit) on the norm filter.",
        OURS,
        strongest(FILTER, controls=True),
    ),
    Claim(
        "fltrust_la_mb",
        "Faker beats LA and MB on FLTrust in model space.",
        FAKER,
        beats("fltrust", ("la", "mb")),
    ),
    Claim(
        "fltrust_all",
        "Faker beats every other attack on FLTrust in model space.",
        FAKER,
        strongest("fltrust"),
    ),
    Claim(
        "fltrust_update",
        "Faker beats LA and MB on FLTrust in update space.",
        FAKER,
        beats("fltrust_update", ("la", "mb")),
    ),
    Claim(
        "fltrust_update_flat",
        "On FLTrust in update space every attack leaves the same accuracy.",
        OURS,
        update_space_fltrust,
    ),
    Claim(
        "krum_la_mb",
        "Faker beats LA and MB on Krum (Faker-distance white box knows all updates, LA only its "
        "own).",
        FAKER,
        beats("krum", ("la", "mb")),
    ),
    Claim("krum_fang", "Faker beats Fang on Krum.", FAKER, beats("krum", ("fang",))),
    Claim("one_attacker", "A single Faker client costs accuracy.", FAKER, one_attacker),
    Claim("one_round", "A single attacked round costs final accuracy.", FAKER, one_round),
    Claim(
        "crafting_time",
        "Every Faker mode is crafted faster than LA, MB, Min-Max and Fang.",
        FAKER,
        faster,
    ),
    Claim(
        "spp_balance",
        "SPP around the norm filter brings accuracy under balanced Faker back.",
        FAKER,
        balance_is_harmless,
    ),
    Claim(
        "spp_spread_limit",
        "Uniform SPP does not stop spread Faker (norm, flip, 2d) nor neg (documented limit).",
        OURS,
        spread_is_not_stopped,
    ),
    Claim(
        "spp_krum",
        "SPP around Krum weakens threshold-tight Faker: chosen much less, accuracy back.",
        FAKER,
        spp_krum,
    ),
    Claim("spp_fltrust", "SPP around FLTrust changes nothing against Faker.", OURS, spp_fltrust),
    Claim(
        "layerwise",
        "Layerwise SPP stops Faker-norm and Faker-2D but stays weak on Faker-flip.",
        OURS,
        layerwise,
    ),
    Claim("per_tensor", "A per-tensor Faker breaks layerwise SPP.", OURS, per_tensor),
    Claim(
        "other_rules",
        "Faker beats the other attacks on median, trimmed mean, Bulyan, NNM, centred clipping, "
        "FLAME and FoolsGold (those measured).",
        FAKER,
        on_other_rules,
    ),
)
