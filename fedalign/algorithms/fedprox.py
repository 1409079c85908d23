"""FedProx: clients are pulled back to the model they received.

Paper: Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, Eq. (2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fedalign.algorithms.fedavg import FedAvg
from fedalign.core.contracts import ClientTask, Memory, Updates, Workload
from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class FedProx(FedAvg):
    """mu: >= 0, strength of the proximal term mu/2 |w - w_t|^2; 0 is FedAvg."""

    mu: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mu < 0:
            raise ConfigError(f"algorithm.mu must be 0 or more, got {self.mu}.")

    def client_step(
        self, workload: Workload, tasks: Sequence[ClientTask], memories: Sequence[Memory]
    ) -> tuple[Updates, Sequence[Memory]]:
        """Local training on loss + mu/2 |w - w_t|^2."""

        def pull(gradient: Tensor, vectors: Tensor, start: Tensor) -> Tensor:  # all (k, d)
            return gradient + self.mu * (vectors - start)

        return workload.train(tasks, memories, pull)
