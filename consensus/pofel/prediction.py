"""Prediction: what an honest server says the others will vote, in ppm.

Paper: none; our derivation (a Dirichlet prior over the best candidate plus the own vote); the
second rule, most on the own choice and the rest evenly, after Li, Hu, Wang, "PoFEL", arXiv
2308.07840, 2023, is remembered and not certain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from consensus.pofel.exact_logs import exact
from consensus.pofel.shares import split
from fedalign.core.errors import ConfigError

WHOLE = 1_000_000


@dataclass(frozen=True)
class PredictionRule:
    """kind: "most_on_choice", the best reply where evaluation is public and votes agree; or
    "dirichlet", for private evaluation. temperature_ppb: softmax over similarities, > 0.
    own_ppm: kappa, mass of the own vote in candidates, >= 0. most_ppm: for "most_on_choice".
    floor_ppm: the least any server gets, so that no logarithm is infinite; > 0."""

    kind: Literal["dirichlet", "most_on_choice"] = "most_on_choice"
    temperature_ppb: int = 50_000_000
    own_ppm: int = 2_000_000
    most_ppm: int = 900_000
    floor_ppm: int = 1000

    def __post_init__(self) -> None:
        if self.kind not in ("dirichlet", "most_on_choice"):
            raise ConfigError(f"Predictions are dirichlet or most_on_choice; got '{self.kind}'.")
        if self.temperature_ppb <= 0 or self.own_ppm < 0 or self.floor_ppm <= 0:
            raise ConfigError("Predictions need temperature_ppb > 0, own_ppm >= 0, floor_ppm > 0.")
        if not 0 < self.most_ppm < WHOLE:
            raise ConfigError(f"most_ppm is 1 .. 999999 (default 900000), got {self.most_ppm}.")


def predict(
    members: Sequence[bytes],
    likeness_ppb: Mapping[bytes, int],
    choice: bytes,
    rule: PredictionRule = PredictionRule(),
) -> tuple[int, ...]:
    """ppm for every member, adding up to 1000000. likeness_ppb: of the candidates."""
    if rule.kind == "dirichlet":
        mass = _dirichlet(likeness_ppb, choice, rule)
    else:
        others = max(len(likeness_ppb) - 1, 1)
        rest = Fraction(WHOLE - rule.most_ppm, others)
        mass = {c: Fraction(rule.most_ppm) if c == choice else rest for c in likeness_ppb}
    return floored([mass.get(node, Fraction(0)) for node in members], rule.floor_ppm)


def floored(mass: Sequence[int | Fraction], floor_ppm: int) -> tuple[int, ...]:
    """Shares in ppm, none below the floor, adding up to 1000000."""
    room = WHOLE - floor_ppm * len(mass)
    if room < 0:
        raise ConfigError(
            f"{len(mass)} shares of at least {floor_ppm} ppm exceed the whole: lower floor_ppm to "
            f"{WHOLE // len(mass)}."
        )
    return tuple(floor_ppm + x for x in split(room, mass))


def _dirichlet(
    likeness_ppb: Mapping[bytes, int], choice: bytes, rule: PredictionRule
) -> dict[bytes, Fraction]:
    """a_j proportional to softmax(s_j / T) with sum n, plus kappa on the own choice."""
    top = max(likeness_ppb.values())
    with exact():
        raw = {
            c: Fraction((Decimal(s - top) / rule.temperature_ppb).exp())
            for c, s in likeness_ppb.items()
        }
    total = sum(raw.values())
    mass = {c: x * len(raw) / total for c, x in raw.items()}
    mass[choice] += Fraction(rule.own_ppm, WHOLE)
    return mass
