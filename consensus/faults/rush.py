"""Rush: declare a phase over as soon as it begins, so that slower servers are left out.

Paper: none; our derivation (censorship by whoever may say that time is up; an order that stands
liars refuses such a mark until the phase has lasted its least time).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from consensus.fault import Fault, FaultView
from consensus.identity import Key
from consensus.pofel.messages import Entry, Mark
from consensus.pofel.state import Phase
from fedalign.core.errors import ConfigError

What = Literal["all", "commit", "reveal", "avail", "vote_commit", "vote", "block"]


@dataclass(frozen=True)
class Rush(Fault):
    """Says that the time of a phase is up, whenever it hears something in it.

    what: the phase, or "all".
    """

    what: What = "commit"

    def __post_init__(self) -> None:
        if self.what not in get_args(What):
            raise ConfigError(
                f"A server rushes one of {', '.join(get_args(What))}; got '{self.what}'."
            )

    def __call__(self, outgoing: Sequence[Entry], view: FaultView, key: Key) -> Sequence[Entry]:
        state = view.state
        if self.what not in ("all", Phase(state.phase).name.lower()):
            return outgoing
        return [*outgoing, view.say(key, Mark(int(state.phase), state.rank, 1), state.rank)]
