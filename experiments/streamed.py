"""Runs whose rule lets rows go: what they refuse before training, what their log says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.build import build
from experiments.resident import peak_mb
from fedalign.core.contracts import Defense
from fedalign.core.errors import ConfigError
from fedalign.core.streams import StreamingDefense
from fedalign.federation.parts import Outcome

TIMED = 2000
REHEARSED = 64  # rows of noise are enough to see what a rule refuses


def streams(rule: Defense) -> bool:
    """Whether rounds under this rule hold no matrix of rows."""
    return isinstance(rule, StreamingDefense)


def share(config: Mapping[str, Any]) -> float:
    """Of a round's clients: as many as are needed to estimate how long the round takes."""
    if not streams(build(config["defense"])):
        return 1.0
    return min(1.0, TIMED / max(config["clients"] * config["participation"], 1))


def refuse(config: Mapping[str, Any], rule: Defense, attack: Any, attackers: int) -> None:
    """ConfigError where something asks for rows that are gone."""
    if not streams(rule):
        return
    poisons = callable(getattr(type(attack), "poison", None))
    quiet = config["attack"]["_target_"] == "attacks.none.NoAttack" or not attackers
    topology = config["topology"]
    for name, wrong, instead in (
        ("attack", not quiet and not poisons, "attack=none, or one that poisons data, or a rule "
         "that holds all updates, such as defense=fedavg"),
        ("incentive", config["incentive"]["_target_"] != "incentives.none.Unpaid",
         "incentive=none"),
        ("topology", topology["edges"] * topology["edge_rounds"] > 1, "topology=flat"),
        ("stragglers.late", config["stragglers"]["late"], "stragglers.late=false"),
    ):  # fmt: skip
        if wrong:
            raise ConfigError(
                f"defense={rule.__class__.__name__} adds updates up and lets them go, so nobody "
                f"can look at them again, as this {name} must: take {instead}."
            )


def record(outcome: Outcome) -> dict[str, Any]:
    """What a round's log line says in place of its empty lists of clients."""
    seen = outcome.streamed
    if seen is None:
        return {}
    lying, wrong = seen.lying, len(outcome.nonfinite)
    honest = seen.arrived - lying
    return {
        "counts": {
            "malicious_sent": lying,
            "malicious_accepted": lying,
            "benign_sent": honest + wrong,
            "benign_accepted": honest,
        },
        "malicious_weight": lying / seen.arrived if seen.arrived else "nan",
        "streamed": {
            "arrived": seen.arrived,
            "missing": seen.missing,
            "samples": seen.samples,
            "train_loss": seen.loss / seen.arrived if seen.arrived else "nan",
            "peak_rss_mb": round(peak_mb(), 1),
        },
    }
