"""FedOpt: the server treats the aggregate as a gradient for an adaptive optimiser.

Paper: Reddi et al., "Adaptive Federated Optimization", ICLR 2021, Algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedalign.algorithms.fedavg import FedAvg
from fedalign.core.contracts import Aggregate, Memory, Workload
from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class FedOpt(FedAvg):
    """optimizer: adagrad, adam or yogi. server_lr: > 0. beta1, beta2: in [0, 1). tau: > 0, the
    degree of adaptivity, also the start of the second moment (tau^2)."""

    server_lr: float = 0.03
    optimizer: Literal["adagrad", "adam", "yogi"] = "adam"
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer not in ("adagrad", "adam", "yogi"):
            raise ConfigError(
                f"algorithm.optimizer must be adagrad, adam or yogi, got {self.optimizer!r}."
            )
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1 and self.tau > 0):
            raise ConfigError(
                f"algorithm.beta1={self.beta1} and beta2={self.beta2} must lie in [0, 1), "
                f"tau={self.tau} above 0."
            )

    def server_step(
        self, workload: Workload, model: Tensor, aggregate: Aggregate, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """One step of the optimiser on the aggregate (d,)."""
        delta = aggregate.vector
        first = memory.get("first", torch.zeros_like(model))
        second = memory.get("second", torch.full_like(model, self.tau**2))
        first = self.beta1 * first + (1 - self.beta1) * delta
        squared = delta.square()
        if self.optimizer == "adagrad":
            second = second + squared
        elif self.optimizer == "adam":
            second = self.beta2 * second + (1 - self.beta2) * squared
        else:
            second = second - (1 - self.beta2) * squared * torch.sign(second - squared)
        step = self.server_lr * first / (second.sqrt() + self.tau)
        return model + step, {"first": first, "second": second}
