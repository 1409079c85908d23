"""Clusters: several models, each client trains the one that fits its own data best.

Paper: Ghosh et al., "An Efficient Framework for Clustered Federated Learning" (IFCA), NeurIPS 2020,
Algorithm 1 (model averaging), with one client per cluster in the first round in place of restarts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from fedalign.algorithms.fedavg import FedAvg
from fedalign.core.contracts import ClientTask, Memory, Updates
from fedalign.core.errors import ConfigError
from fedalign.core.personal import Many

NOBODY = -1


@dataclass(frozen=True)
class Cluster(FedAvg):
    """count: models, 2 .. 9. seed: of the draw of the clients that found a cluster each in the
    first round; untrained adapters are all one function, so that nobody could choose among them.

    Every client receives all models, trains the one with the lowest loss on its own data (ties:
    the first) and answers for this one alone; the rule is applied to each cluster's members.
    """

    count: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.count <= 9:
            raise ConfigError(f"algorithm.count must lie in 2 .. 9, got {self.count}.")

    def assign(
        self, tasks: Sequence[ClientTask], probes: Updates | None, memory: Memory
    ) -> Sequence[ClientTask]:
        """In the first round: who founds which cluster."""
        if tasks[0].round > 1 or tasks[0].step != "train":
            return tasks
        if len(tasks) < self.count:
            raise ConfigError(
                f"algorithm.count={self.count} clusters need as many clients in the first round, "
                f"got {len(tasks)}."
            )
        order = np.random.default_rng(self.seed).permutation(len(tasks)).tolist()
        founds = {place: cluster for cluster, place in enumerate(order[: self.count])}
        return [
            replace(task, extra={**task.extra, "founds": torch.tensor(founds.get(i, NOBODY))})
            for i, task in enumerate(tasks)
        ]

    def client_step(
        self, workload: Many, tasks: Sequence[ClientTask], memories: Sequence[Memory]
    ) -> tuple[Updates, Sequence[Memory]]:
        """Choose, train, answer for the chosen model."""
        chosen = self._chosen(workload, tasks)
        alone = _alone(workload, tasks, chosen)
        updates, after = workload.single.train(alone, memories)
        rows, mask = workload.spread(updates.rows, chosen)
        found = {**updates.metrics, "cluster": torch.tensor(chosen, dtype=torch.float64)}
        return replace(updates, rows=rows, mask=mask, metrics=found), after

    def client_judge(
        self, workload: Many, tasks: Sequence[ClientTask], memories: Sequence[Memory]
    ) -> Updates:
        """Each client judges the model that it would train."""
        chosen = self._chosen(workload, tasks)
        return workload.single.judge(_alone(workload, tasks, chosen), memories)

    def _chosen(self, workload: Many, tasks: Sequence[ClientTask]) -> list[int]:
        if "founds" in tasks[0].extra:
            return [int(task.extra["founds"]) for task in tasks]
        losses = [
            workload.single.losses(_alone(workload, tasks, [cluster] * len(tasks)))
            for cluster in range(self.count)
        ]
        return torch.stack(losses).argmin(dim=0).tolist()


def _alone(workload: Many, tasks: Sequence[ClientTask], chosen: Sequence[int]) -> list[ClientTask]:
    """The tasks with one model each."""
    return [
        replace(task, vector=workload.model(task.vector, max(cluster, 0)))
        for task, cluster in zip(tasks, chosen, strict=True)
    ]
