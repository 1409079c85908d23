"""Bribe: bought servers vote for the briber's candidate, and predict as cleverly as told.

Paper: none; our derivation (strategies against Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023, whose
scores follow Prelec, "A Bayesian Truth Serum for Subjective Data", Science 306, 2004).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, get_args

from consensus.fault import Fault, FaultView
from consensus.identity import Key
from consensus.pofel import speech
from consensus.pofel.bribery import best_prediction
from consensus.pofel.messages import Entry, Kind, Vote
from consensus.pofel.prediction import WHOLE, floored
from fedalign.core.errors import ConfigError

Strategy = Literal["naive", "copycat", "calibrated", "optimal"]


@dataclass(frozen=True)
class Bribe(Fault):
    """Votes for another candidate than the best one.

    strategy: what is predicted. naive: the briber's candidate, as an honest voter for it would;
    copycat: as the honest servers do; calibrated: the true shares; optimal: what pays best
    against plain scores. target: position of the briber's candidate; None takes the coalition's
    first member that is not the honest choice.
    """

    strategy: Strategy = "calibrated"
    target: int | None = None

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            raise ConfigError(
                f"A bribe's strategy is one of {', '.join(get_args(Strategy))}; got "
                f"'{self.strategy}'."
            )

    def __call__(self, outgoing: Sequence[Entry], view: FaultView, key: Key) -> Sequence[Entry]:
        if view.evaluated is None:
            return outgoing
        result = []
        for entry in outgoing:
            if entry.kind is Kind.VOTE:
                entry = view.say(key, self._vote(view))
            elif entry.kind is Kind.VOTE_COMMIT:
                hidden = speech.ballot(view.settings, view.state, view.node, self._vote(view))
                entry = view.say(key, hidden)
            result.append(entry)
        return result

    def _vote(self, view: FaultView) -> Vote:
        members = view.state.members(view.settings)
        best = view.honest_vote(None)
        wanted = self._wanted(view, members[best.choice])
        choice = members.index(wanted)
        if self.strategy == "naive":
            return view.honest_vote(wanted)
        if self.strategy == "copycat":
            return replace(best, choice=choice)
        bought = sum(node in members for node in _nodes(view))
        share = Fraction(bought, len(members))
        alpha = view.settings.btsv.alpha_ppm / WHOLE
        on_best = 1 - share
        if self.strategy == "optimal":
            on_best = Fraction(best_prediction(float(share), max(alpha, 1.0))).limit_denominator(
                WHOLE
            )
        mass = [Fraction(0)] * len(members)
        mass[best.choice], mass[choice] = on_best, mass[choice] + 1 - on_best
        return replace(best, choice=choice, prediction_ppm=floored(mass, view.settings.floor_ppm))

    def _wanted(self, view: FaultView, best: bytes) -> bytes:
        members = view.settings.members
        if self.target is not None:
            return members[self.target]
        others = [node for node in view.state.roster if node != best]
        ours = [node for node in _nodes(view) if node in others]
        return (ours or others or [best])[0]


def _nodes(view: FaultView) -> list[bytes]:
    return [view.settings.members[i] for i in view.coalition]
