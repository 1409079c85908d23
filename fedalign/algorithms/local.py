"""Local training: nobody learns from anybody; what federation is compared with.

Paper: none; the baseline of McMahan et al., "Communication-Efficient Learning of Deep Networks from
Decentralized Data", AISTATS 2017, and of every study of personalisation since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from fedalign.algorithms.fedavg import FedAvg
from fedalign.core.contracts import ClientTask, Memory, Updates, Workload
from fedalign.core.personal import Personal


@dataclass(frozen=True)
class Local(FedAvg):
    """Every client goes on from the model it has itself. The server still averages what it is
    sent, and nobody takes the average: it is the mean of the local models."""

    def client_step(
        self, workload: Workload, tasks: Sequence[ClientTask], memories: Sequence[Memory]
    ) -> tuple[Updates, Sequence[Memory]]:
        """Local training from the client's own model; the row leads from the average there."""
        own = [replace(t, vector=_own(t, m)) for t, m in zip(tasks, memories, strict=True)]
        updates, after = workload.train(own, memories)
        models = [
            task.vector.cpu() + row for task, row in zip(own, updates.rows.cpu(), strict=True)
        ]
        rows = torch.stack(
            [model - task.vector.cpu() for model, task in zip(models, tasks, strict=True)]
        )
        kept = [
            {**memory, _name(task): model}
            for memory, task, model in zip(after, tasks, models, strict=True)
        ]
        return replace(updates, rows=rows.to(updates.rows)), kept

    def client_judge(
        self, workload: Personal, tasks: Sequence[ClientTask], memories: Sequence[Memory]
    ) -> Updates:
        """Each client judges its own model."""
        own = [replace(t, vector=_own(t, m)) for t, m in zip(tasks, memories, strict=True)]
        return workload.judge(own, memories)


def _own(task: ClientTask, memory: Memory):
    return memory.get(_name(task), task.vector)


def _name(task: ClientTask) -> str:
    return "poisoned_model" if task.poisoned else "model"
