"""Client momentum: every client sends a running mean of its updates, the companion of robust rules.

Paper: Karimireddy et al., "Learning from History for Byzantine Robust Optimization", ICML 2021,
Algorithm 2 (there on gradients, here on updates of several local steps).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedalign.algorithms.fedavg import FedAvg
from fedalign.core.contracts import ClientTask, Memory, Updates, Workload
from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class ClientMomentum(FedAvg):
    """beta: 0 <= beta < 1; m <- beta m + (1 - beta) update, and m is sent. The first m is the
    update itself, so that round 1 is FedAvg's."""

    beta: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.beta < 1:
            raise ConfigError(f"algorithm.beta must lie in [0, 1), got {self.beta}.")

    def client_step(
        self, workload: Workload, tasks: Sequence[ClientTask], memories: Sequence[Memory]
    ) -> tuple[Updates, Sequence[Memory]]:
        """Local training, then the running mean; a poisoned run of a client has its own mean."""
        updates, memories = workload.train(tasks, memories)
        rows, after = updates.rows.clone(), []
        for i, (task, memory) in enumerate(zip(tasks, memories, strict=True)):
            name = "poisoned_momentum" if task.poisoned else "momentum"
            if name in memory:
                rows[i] = self.beta * memory[name] + (1 - self.beta) * rows[i]
            after.append({**memory, name: rows[i].clone()})
        return replace(updates, rows=rows), after
