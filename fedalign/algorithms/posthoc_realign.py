"""Post-hoc realignment: after merging, the server tunes the model on aligned data of its own.

Paper: Ye et al., "Emerging Safety Attack and Defense in Federated Instruction Tuning of Large
Language Models", arXiv 2406.10630, 2024, Section 4 (defense data made automatically, at the server).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedalign.algorithms.fedavg import FedAvg
from fedalign.core.contracts import ROOT, Aggregate, ClientTask, Memory, Work, Workload
from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class PosthocRealign(FedAvg):
    """steps: of local training on the server's own data, >= 1. every: rounds (>= 1) between two
    such trainings; the last comes `every` rounds after the one before, so that a divisor of the
    run's rounds ends with one.

    Language models learn there from refusals of what must be refused and from as many ordinary
    pairs, against the merged model as reference, which they stay close to.
    """

    steps: int = 6
    every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.every < 1:
            raise ConfigError(
                f"algorithm.steps and every must be 1 or more, got {self.steps} and {self.every}."
            )

    def server_step(
        self, workload: Workload, model: Tensor, aggregate: Aggregate, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """FedAvg's step, then training as the client ROOT."""
        merged, memory = super().server_step(workload, model, aggregate, memory)
        merges = memory.get("merges", 0) + 1
        if merges % self.every == 0:
            task = ClientTask(
                "train", ROOT, merges, merged, Work(steps=self.steps),
                extra={"realign": torch.ones(1)},
            )  # fmt: skip
            merged = merged + workload.train([task], [{}])[0].rows[0].to(merged)
        return merged, {**memory, "merges": merges}
