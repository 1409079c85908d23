"""Loops: what one local step does under every objective that is no plain loss on pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedalign.core.errors import ConfigError
from fedalign.data.graded_facts import ATTRIBUTES
from fedalign.models.scored import Pool
from fedalign.objectives.conqord import Conqord
from fedalign.objectives.constitution import Constitution
from fedalign.objectives.distillation import Distillation
from fedalign.objectives.ppo import Ppo
from fedalign.objectives.rejection_sampling import RejectionSampling
from fedalign.objectives.steerlm import Steered, SteerLm
from fedalign.objectives.steerlm2 import SteerLm2
from fedalign.training.confidence import confidence
from fedalign.training.imitation import constitution, distillation, rejection_sampling
from fedalign.training.lesson import Lesson, Step
from fedalign.training.proximal import proximal
from fedalign.training.steering import steering

LOOPS: Mapping[type, Callable[[Lesson], Step]] = {
    Conqord: confidence,
    Constitution: constitution,
    Distillation: distillation,
    Ppo: proximal,
    RejectionSampling: rejection_sampling,
    SteerLm: steering,
    SteerLm2: steering,
}


def loop(objective: Any) -> Callable[[Lesson], Step] | None:
    """The objective's loop; None where it is a loss on pairs or on online answers alone."""
    return LOOPS.get(type(objective))


def scorer(objective: Any) -> tuple[int, Pool] | None:
    """How many scores its critic or rater gives, and what that one reads; None where it has none."""
    if isinstance(objective, Steered):
        return len(ATTRIBUTES), objective.pool
    return (1, "last") if isinstance(objective, Ppo) else None


def steered(objective: Any) -> bool:
    """Whether the policy answers under conditions."""
    return isinstance(objective, Steered)


def rate_scale(objective: Any, round: int, rounds: int) -> float:
    """What multiplies the learning rate in round 1 .. rounds."""
    if isinstance(objective, SteerLm2):
        return objective.rate(round, rounds)
    return objective.rate_scale if isinstance(objective, Constitution) else 1.0


def check_rounds(objective: Any, rounds: int) -> None:
    """Refuse a first stage (rating_rounds, format_rounds) that leaves no round for the next."""
    for name in ("rating_rounds", "format_rounds"):
        first = getattr(objective, name, 0)
        if first >= rounds:
            raise ConfigError(
                f"objective.{name}={first} leaves none of rounds={rounds} for what follows: lower it "
                "or raise rounds."
            )
