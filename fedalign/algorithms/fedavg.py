"""FedAvg: clients train from the broadcast model, the server adds the aggregate.

Paper: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
AISTATS 2017, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fedalign.core.contracts import Aggregate, ClientTask, Memory, Updates, Workload
from fedalign.core.errors import ConfigError
from fedalign.core.personal import Personal


@dataclass(frozen=True)
class FedAvg:
    """server_lr: > 0, how much of the aggregate is added; 1 is the paper's."""

    server_lr: float = 1.0

    def __post_init__(self) -> None:
        if not self.server_lr > 0:
            raise ConfigError(f"algorithm.server_lr must be above 0, got {self.server_lr}.")

    def shared(self, name: str) -> bool:
        """Every trainable leaves the client."""
        return True

    def assign(
        self, tasks: Sequence[ClientTask], probes: Updates | None, memory: Memory
    ) -> Sequence[ClientTask]:
        """Everybody gets the broadcast model as it is."""
        return tasks

    def client_step(
        self, workload: Workload, tasks: Sequence[ClientTask], memories: Sequence[Memory]
    ) -> tuple[Updates, Sequence[Memory]]:
        """Plain local training."""
        return workload.train(tasks, memories)

    def client_judge(
        self, workload: Personal, tasks: Sequence[ClientTask], memories: Sequence[Memory]
    ) -> Updates:
        """What the received model is worth to each client."""
        return workload.judge(tasks, memories)

    def server_step(
        self, workload: Workload, model: Tensor, aggregate: Aggregate, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """model (d,) + server_lr * aggregate."""
        return model.add(aggregate.vector, alpha=self.server_lr), memory
