"""Steering: one model for all, asked by each client for the answers that this client wants.

Paper: Dong et al., "SteerLM: Attribute Conditioned SFT as an (User-Steerable) Alternative to RLHF",
Findings of EMNLP 2023 (the condition); conditions per client instead of models per client: our
reading of it for federations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from fedalign.algorithms.fedavg import FedAvg
from fedalign.core.contracts import ClientTask, Memory, Updates


@dataclass(frozen=True)
class Steer(FedAvg):
    """Clients train and ask with their own target scores behind the question. Which ones stays
    with the client; weights are all shared."""

    def assign(
        self, tasks: Sequence[ClientTask], probes: Updates | None, memory: Memory
    ) -> Sequence[ClientTask]:
        """Everybody is told to condition on what it wants."""
        told = torch.ones(1)
        return [replace(task, extra={**task.extra, "steer": told}) for task in tasks]
