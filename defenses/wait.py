"""Wait: FedAvg of everybody, however long the slowest takes.

Paper: none; synchronous federated learning, the latency baseline of straggler-tolerant rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from defenses.fedavg import FedAvg, Weighting


@dataclass(frozen=True)
class Wait(FedAvg):
    """The mean over all members that are not gone for good; rounds stay open until they arrived.

    weighting: "samples", proportional to `context.weights`, or "uniform".
    """

    weighting: Weighting = "samples"

    waits: ClassVar[bool] = True
