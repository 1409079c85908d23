"""Centralised training: clients hand in their data; what federation is compared with.

Paper: none; the upper reference of McMahan et al., "Communication-Efficient Learning of Deep
Networks from Decentralized Data", AISTATS 2017, and of most studies since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from fedalign.algorithms.fedavg import FedAvg
from fedalign.core.contracts import ClientTask, Memory, Updates, Workload
from fedalign.core.errors import ConfigError
from fedalign.core.personal import Personal


@dataclass(frozen=True)
class Centralised(FedAvg):
    """One model trained on the data of all who take part, with as many steps as a client makes and
    batches as large as theirs together, so that as much data is seen. Every row is its update."""

    def assign(
        self, tasks: Sequence[ClientTask], probes: Updates | None, memory: Memory
    ) -> Sequence[ClientTask]:
        """Everybody is told whose data is pooled."""
        extra = {
            "pool": torch.tensor([task.client for task in tasks]),
            "pool_poisoned": torch.tensor([task.poisoned for task in tasks]),
        }
        return [replace(task, extra={**task.extra, **extra}) for task in tasks]

    def client_step(
        self, workload: Workload, tasks: Sequence[ClientTask], memories: Sequence[Memory]
    ) -> tuple[Updates, Sequence[Memory]]:
        """The training is done once per block; its row stands for each of the block's clients."""
        if not isinstance(workload, Personal):
            raise ConfigError(
                "algorithm=centralised pools preference pairs: take workload=alignment, or "
                "algorithm=fedavg clients=1."
            )
        leader = replace(tasks[0], client=int(tasks[0].extra["pool"][0]))
        done, after = workload.train([leader], memories[:1])
        count = len(tasks)
        updates = replace(
            done,
            clients=torch.tensor([task.client for task in tasks]),
            rows=done.rows.expand(count, -1).clone(),
            samples=done.samples.expand(count).clone(),
            metrics={name: value.expand(count).clone() for name, value in done.metrics.items()},
        )
        return updates, [after[0]] * count
