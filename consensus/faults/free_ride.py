"""Free-ride: hand in a model that cost nothing.

Paper: Lin, Du, Liu, "Free-riders in Federated Learning", arXiv 1911.12560, 2019 (the received
model, plain or disguised by noise); as a server's move our derivation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from consensus.fault import Fault, FaultView
from consensus.faults._swap import swap
from consensus.identity import Key
from consensus.pofel.messages import Entry
from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class FreeRide(Fault):
    """The model the round began with, so an update of zeros; or noise that looks like work.

    deviation: standard deviation of the noise, in units of the update (>= 0). inflation: how many
    times its samples the server claims (>= 1).
    """

    deviation: float = 0.0
    inflation: int = 1

    def __post_init__(self) -> None:
        if self.deviation < 0 or self.inflation < 1:
            raise ConfigError(
                "A free-rider's noise has a deviation >= 0 and its inflation is 1 or more, got "
                f"{self.deviation} and {self.inflation}."
            )

    def __call__(self, outgoing: Sequence[Entry], view: FaultView, key: Key) -> Sequence[Entry]:
        if view.own is None:
            return outgoing
        noise = view.rng.normal(size=len(view.own)) * self.deviation * 2**view.state.scale
        return swap(outgoing, view, key, np.rint(noise).astype(np.int64), self.inflation)
