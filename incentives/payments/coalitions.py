"""Coalitions: what a set of clients is worth together, asked once per set.

Paper: none; the characteristic function of a cooperative game.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Worth = Callable[[tuple[int, ...]], float]
"""v(S): ascending positions of players -> a number; v(()) need not be 0, differences count."""


@dataclass
class Coalitions:
    """A worth that answers from memory what it was asked before; it lives as long as one call.

    asked: how many different coalitions were valued.
    """

    worth: Worth
    _known: dict[tuple[int, ...], float] = field(default_factory=dict)

    def __call__(self, players: Iterable[int]) -> float:
        coalition = tuple(sorted(players))
        if coalition not in self._known:
            self._known[coalition] = float(self.worth(coalition))
        return self._known[coalition]

    @property
    def asked(self) -> int:
        return len(self._known)
