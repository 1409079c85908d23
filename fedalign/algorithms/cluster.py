"""Clusters: several models, each client trains the one that fits its own data best.

Papers: Ghosh et al., "An Efficient Framework for Clustered Federated Learning" (IFCA), NeurIPS 2020,
Algorithm 1 (model averaging); Sattler et al., "Clustered Federated Learning: Model-Agnostic
Distributed Multi-Task Optimization under Privacy Constraints", IEEE TNNLS 2021 (the first split, by
the angles of updates, in place of IFCA's random restarts).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedalign.algorithms.fedavg import FedAvg
from fedalign.core.contracts import ClientTask, Memory, Updates
from fedalign.core.errors import ConfigError
from fedalign.core.personal import Many

UNDECIDED = -1


@dataclass(frozen=True)
class Cluster(FedAvg):
    """count: models, 2 .. 9.

    In the first round all models are one untrained adapter, everybody trains it, and the server
    splits the updates by their angles. From then on every client receives all models, trains the
    one with the lowest loss on its own data (ties: the first) and answers for this one alone; the
    rule is applied to each cluster's members.
    """

    count: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.count <= 9:
            raise ConfigError(f"algorithm.count must lie in 2 .. 9, got {self.count}.")

    def client_step(
        self, workload: Many, tasks: Sequence[ClientTask], memories: Sequence[Memory]
    ) -> tuple[Updates, Sequence[Memory]]:
        """Choose, train, answer for the chosen model."""
        chosen = self._selection(workload, tasks)
        updates, after = workload.single.train(_alone(workload, tasks, chosen), memories)
        rows, mask = workload.spread(updates.rows, chosen)
        found = {**updates.metrics, "cluster": torch.tensor(chosen, dtype=torch.float64)}
        return replace(updates, rows=rows, mask=mask, metrics=found), after

    def client_judge(
        self, workload: Many, tasks: Sequence[ClientTask], memories: Sequence[Memory]
    ) -> Updates:
        """Each client judges the model that it would train."""
        chosen = self._chosen(workload, tasks)
        return workload.single.judge(_alone(workload, tasks, chosen), memories)

    def _selection(self, workload: Many, tasks: Sequence[ClientTask]) -> list[int]:
        """Which model each client trains."""
        if tasks[0].round == 1:
            return [UNDECIDED] * len(tasks)
        return self._chosen(workload, tasks)

    def _chosen(self, workload: Many, tasks: Sequence[ClientTask]) -> list[int]:
        """The model with the lowest loss on each client's own data."""
        return self._losses(workload, tasks).argmin(dim=0).tolist()

    def _losses(self, workload: Many, tasks: Sequence[ClientTask]) -> Tensor:
        """(count, n)"""
        return torch.stack(
            [
                workload.single.losses(_alone(workload, tasks, [cluster] * len(tasks)))
                for cluster in range(self.count)
            ]
        )


def _alone(workload: Many, tasks: Sequence[ClientTask], chosen: Sequence[int]) -> list[ClientTask]:
    """The tasks with one model each."""
    return [
        replace(task, vector=workload.model(task.vector, max(cluster, 0)))
        for task, cluster in zip(tasks, chosen, strict=True)
    ]
