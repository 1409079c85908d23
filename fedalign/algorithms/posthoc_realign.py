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
    run's rounds ends with one, and the run's rounds themselves train once, at the end. anchor: >= 0,
    weight of the divergence from the merged model on ordinary answers. sure: in (0, 1], the
    mean probability of aligned answers from which on a merged model stays as it is.

    Language models imitate refusals of what must be refused there, beside as many ordinary answers
    to which they keep the merged model's probabilities. The paper tunes on aligned and ordinary
    data by cross-entropy, once, after the last round; anchor and repetition are our choice.
    """

    steps: int = 12
    every: int = 1
    anchor: float = 1.0
    sure: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.every < 1:
            raise ConfigError(
                f"algorithm.steps and every must be 1 or more, got {self.steps} and {self.every}."
            )
        if not self.anchor >= 0:
            raise ConfigError(f"algorithm.anchor must be 0 or more, got {self.anchor}.")
        if not 0 < self.sure <= 1:
            raise ConfigError(f"algorithm.sure must lie in (0, 1], got {self.sure}.")

    def server_step(
        self, workload: Workload, model: Tensor, aggregate: Aggregate, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """FedAvg's step, then training as the client ROOT."""
        merged, memory = super().server_step(workload, model, aggregate, memory)
        merges = memory.get("merges", 0) + 1
        if merges % self.every == 0:
            task = ClientTask(
                "train", ROOT, merges, merged, Work(steps=self.steps),
                extra={"realign": torch.tensor([self.anchor, self.sure]).double()},
            )  # fmt: skip
            merged = merged + workload.train([task], [{}])[0].rows[0].to(merged)
        return merged, {**memory, "merges": merges}
