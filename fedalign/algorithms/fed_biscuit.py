"""FedBiscuit: several models that every client helps to start, then trained by groups that change.

Paper: Wu et al., "Towards Federated RLHF with Aggregated Client Preference for LLMs", ICLR 2025
(selectors, their warm-up, groups of equal size drawn anew every few rounds).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from fedalign.algorithms.cluster import Cluster
from fedalign.core.contracts import ClientTask, Memory, Updates
from fedalign.core.errors import ConfigError
from fedalign.core.personal import Many

LOSS = "loss_of_model_"


@dataclass(frozen=True)
class FedBiscuit(Cluster):
    """count: models, 2 .. 9. warmup: rounds >= 1 in which each of them in turn is trained by
    everybody. regroup: rounds >= 1 after which groups are drawn anew: all clients tell the loss of
    every model on their own data, and are dealt out into groups whose sizes differ by at most one,
    so that the losses' sum is least (the optimum is our choice). A client that did not tell goes
    where there is room, and attackers tell the truth. Reward models vote where they are used."""

    count: int = 3
    warmup: int = 1
    regroup: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup < 1 or self.regroup < 1:
            raise ConfigError(
                "algorithm.warmup and algorithm.regroup must be 1 or more, got "
                f"{self.warmup} and {self.regroup}."
            )

    def assign(
        self, tasks: Sequence[ClientTask], probes: Updates | None, memory: Memory
    ) -> Sequence[ClientTask]:
        """Everybody is told its model."""
        groups = memory.get("groups")
        if groups is None:
            return tasks
        return [replace(t, extra={**t.extra, "group": groups[[t.client]]}) for t in tasks]

    def regroups(self, round: int) -> bool:
        """After the warm-up, and every `regroup` rounds from then on."""
        since = round - self.count * self.warmup
        return since >= 0 and since % self.regroup == 0

    def client_probe(
        self, workload: Many, tasks: Sequence[ClientTask], memories: Sequence[Memory]
    ) -> Updates:
        """The loss of every model on each client's own data."""
        return Updates(
            clients=torch.tensor([task.client for task in tasks]),
            rows=torch.zeros(len(tasks), 0),
            samples=torch.tensor([workload.single.clients[t.client].samples for t in tasks]),
            metrics={f"{LOSS}{k}": x for k, x in enumerate(self._losses(workload, tasks))},
        )

    def grouped(self, probes: Updates, memory: Memory) -> Memory:
        """{"groups": (clients,)}, the model of each client."""
        told = torch.stack([probes.metrics[f"{LOSS}{k}"] for k in range(self.count)], dim=1)
        clients = len(probes.clients) + len(probes.failed)
        losses = torch.full((clients, self.count), float("nan"), dtype=torch.float64)
        losses[probes.clients] = told.double()
        return {**memory, "groups": torch.from_numpy(balanced(losses.numpy()))}

    def _selection(self, workload: Many, tasks: Sequence[ClientTask]) -> list[int]:
        """During the warm-up, and while nobody has told anything, all the same one; later the
        group's."""
        turn = (tasks[0].round - 1) // self.warmup
        if turn < self.count or "group" not in tasks[0].extra:
            return [turn % self.count] * len(tasks)
        return [int(task.extra["group"]) for task in tasks]


def balanced(losses: np.ndarray) -> np.ndarray:
    """(n, U) -> (n,), the assignment of least total loss in which U groups have n // U or one
    more members. NaN: this client has no opinion."""
    n, models = losses.shape
    least, more = n // models, int(n % models > 0)
    known = np.nan_to_num(losses, nan=0.0, posinf=1e12, neginf=-1e12)
    wide = np.repeat(known, least + more, axis=1)
    vacant = models * (least + more) - n  # seats that stay free, at most one in each group
    empty = np.full((vacant, wide.shape[1]), np.inf)
    empty[:, least :: least + more] = 0.0
    _, seats = linear_sum_assignment(np.concatenate([wide, empty]))
    return seats[:n] // (least + more)
