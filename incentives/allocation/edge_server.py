"""Edge server: its capacity, the tasks it must serve in time, and its share of a BCFL round.

Paper: following "Resource allocation for MEC and BCFL" (arXiv 2206.02243); the model is our derivation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedalign.core.errors import ConfigError

Strategy = Literal["equal", "on_demand"]


@dataclass(frozen=True)
class EdgeServer:
    """training, consensus: gigacycles of a round, > 0. communication_s: seconds >= 0.
    capacity: gigahertz > 0. mec: gigacycles > 0 of each mobile-edge task. deadlines_s: their
    deadlines in seconds, > 0.
    """

    training: float
    consensus: float
    communication_s: float
    capacity: float
    mec: Sequence[float] = ()
    deadlines_s: Sequence[float] = ()

    def __post_init__(self):
        above = {"training": [self.training], "consensus": [self.consensus]}
        above |= {"capacity": [self.capacity], "mec": self.mec, "deadlines_s": self.deadlines_s}
        for name, values in above.items():
            for value in values:
                if not 0 < value < np.inf:
                    raise ConfigError(
                        f"EdgeServer: {name} must be above 0 and finite, got {value}."
                    )
        if not 0 <= self.communication_s < np.inf:
            raise ConfigError(
                "EdgeServer: communication_s must be 0 or more and finite, got "
                f"{self.communication_s}."
            )
        if len(self.mec) != len(self.deadlines_s):
            raise ConfigError(
                f"EdgeServer: every task has one deadline, got {len(self.mec)} tasks and "
                f"{len(self.deadlines_s)} deadlines."
            )

    def mec_frequencies(self, strategy: Strategy) -> np.ndarray:  # (tasks,) gigahertz
        """The slowest that meet the deadlines: each its own (on demand), or one for all (equal)."""
        needed = np.asarray(self.mec, float) / np.asarray(self.deadlines_s, float)
        if strategy == "equal" and needed.size:
            return np.full(needed.size, needed.max())
        return needed
