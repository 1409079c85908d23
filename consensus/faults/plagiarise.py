"""Plagiarise: earn with somebody else's model.

Paper: none; our derivation (the games that the commitments of Li, Hu, Wang, "PoFEL", arXiv
2308.07840, 2023, are to end: copy a commitment, copy after the reveal, hand in a near copy).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from consensus.fault import Fault, FaultView
from consensus.faults._swap import swap
from consensus.identity import Key
from consensus.pofel import speech
from consensus.pofel.evaluation import LIMIT
from consensus.pofel.messages import Commit, Entry, Kind, Reveal
from fedalign.core.errors import ConfigError

How = Literal["commitment", "late", "near"]


@dataclass(frozen=True)
class Plagiarise(Fault):
    """Hands in the model of `victim`, a position; None takes the first server that is honest.

    how: "commitment" sends the victim's commitment and later its opening; "late" waits for the
    victim's reveal and commits then; "near" knows the model beforehand (somebody leaked it) and
    commits to it with noise of `noise` times its length (>= 0).
    """

    how: How = "commitment"
    victim: int | None = None
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.how not in get_args(How) or self.noise < 0:
            raise ConfigError(
                f"Plagiarism is one of {', '.join(get_args(How))} with noise >= 0; got "
                f"'{self.how}' with {self.noise}."
            )

    @property
    def omniscient(self) -> bool:
        return self.how == "near"

    def __call__(self, outgoing: Sequence[Entry], view: FaultView, key: Key) -> Sequence[Entry]:
        victim = self._victim(view)
        if self.how == "near":
            if victim not in view.proposals:
                return outgoing
            return swap(outgoing, view, key, self._near(view, view.proposals[victim]))
        rest = [e for e in outgoing if e.kind not in (Kind.COMMIT, Kind.REVEAL)]
        copied = self._commit(view, view.settings.members[victim], key)
        if copied is not None and Kind.COMMIT not in view.sent:
            rest.append(view.say(key, copied))
        shown = view.state.reveals.get(view.settings.members[victim])
        if self.how == "commitment" and shown is not None and Kind.REVEAL not in view.sent:
            root, nonce, length = shown
            told = speech.reveal(view.state, root, length, key.secret)
            rest.append(view.say(key, Reveal(root, nonce, told.chunks, length, told.dtype,
                                             told.layout)))  # fmt: skip
        return rest

    def _victim(self, view: FaultView) -> int:
        if self.victim is not None:
            return self.victim
        everybody = range(len(view.settings.members))
        return next(i for i in everybody if i not in view.coalition)

    def _commit(self, view: FaultView, victim: bytes, key: Key) -> Commit | None:
        """The copied commitment, once there is something to copy."""
        state = view.state
        theirs = state.committed(victim)
        if theirs is None:
            return None
        if self.how == "commitment":
            return Commit(theirs[1], theirs[2], state.head, theirs[3])
        shown = state.reveals.get(victim)
        if shown is None:
            return None
        root, size, time_s = shown[0], theirs[2], theirs[3]
        return speech.commit(view.settings, state, view.node, root, size, time_s, key.secret)

    def _near(self, view: FaultView, values: np.ndarray) -> np.ndarray:
        """The victim's model plus noise of the wanted length."""
        noise = view.rng.normal(size=len(values))
        length = float(np.sqrt(np.square(values, dtype=np.float64).sum()))
        noise *= self.noise * length / max(float(np.sqrt(np.square(noise).sum())), 1e-300)
        return np.clip(values + np.rint(noise).astype(np.int64), -LIMIT, LIMIT)
