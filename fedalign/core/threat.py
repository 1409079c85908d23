"""The threat model as types: what an attacker knows, and the view that holds nothing beyond it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import Tensor

from fedalign.core.vectors import Layout

if TYPE_CHECKING:
    from fedalign.core.contracts import Context, Defense

Space = Literal["update", "model"]
Family = Literal["norm", "distance", "cosine", "coordinate", "other"]


class Knowledge(Flag):
    """What the attacker sees besides its own clients and the broadcast models.

    OWN: nothing more. UPDATES: every benign row of the round. RULE: the rule and its context,
    except the server's randomness. FULL: all of it.
    """

    OWN = 0
    UPDATES = auto()
    RULE = auto()
    FULL = UPDATES | RULE


@dataclass(frozen=True)
class View:
    """All that an attack may look at in one round; rows are float32 updates, (m, d).

    round: counted from 1. clients: how many clients n send this round, attackers included.
    own: honest updates of the m controlled clients. poisoned: the same clients trained on their
    poisoned data, if the attack poisons data. model: the broadcast model (d,). past: the
    broadcast model of the round before, None in round 1. space, family: what the rule compares
    and how, part of the setting. benign: the other n - m rows, only with UPDATES. rule, context:
    only with RULE; `context.model` is set, its randomness is not the server's.
    initial: the model of round 0. memory: what this attack returned last round.
    """

    round: int
    clients: int
    own: Tensor
    model: Tensor
    initial: Tensor
    poisoned: Tensor | None = None
    past: Tensor | None = None
    space: Space = "update"
    family: Family = "other"
    benign: Tensor | None = None
    rule: Defense | None = None
    context: Context | None = None
    layout: Layout | None = None
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    memory: Mapping[str, Any] = field(default_factory=dict)

    def in_space(self, updates: Tensor) -> Tensor:
        """Rows as the rule looks at them: models where `space` is "model", else updates."""
        return updates + self.model if self.space == "model" else updates

    def as_updates(self, rows: Tensor) -> Tensor:
        """The inverse of `in_space`."""
        return rows - self.model if self.space == "model" else rows


@dataclass(frozen=True)
class Crafted:
    """What the attack sends: rows (m, d), always as updates; `memory` comes back next round."""

    rows: Tensor
    memory: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
