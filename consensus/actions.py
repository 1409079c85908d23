"""Actions: what a server asks its driver to do, and what it brings to a round.

Paper: none; our derivation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from consensus.pofel.effects import SetTimer
from consensus.pofel.messages import Entry
from consensus.pofel.task import Evaluated, Task


class Propose(NamedTuple):
    """Have this entry ordered."""

    entry: Entry


class Fetch(NamedTuple):
    """Ask server `source` for a model."""

    source: int
    root: bytes


class Wait(NamedTuple):
    """Call `timeout(timer)` when `timer.after_ms` have passed."""

    timer: SetTimer


class Tell(NamedTuple):
    """Send this FINAL to everybody."""

    final: Entry


Action = Propose | Fetch | Wait | Tell
Evaluate = Callable[[Task, Callable[[bytes], np.ndarray]], Evaluated]
"""(task, root -> update) -> the round's evaluation."""


@dataclass(frozen=True)
class Proposal:
    """What a server brings to a round. values: (d,) int64 at the chain's scale, or None where it
    has no model in time. size: its samples. columns: d. time_s: its clock."""

    values: np.ndarray | None
    size: int
    columns: int
    time_s: int = 0
