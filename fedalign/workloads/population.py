"""Classification over a population: a block's samples are made, trained on and let go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fedalign.core.contracts import (
    ROOT,
    ClientInfo,
    ClientTask,
    Dataset,
    Gradient,
    Memory,
    Updates,
)
from fedalign.data.population_classes import PopulationData
from fedalign.data.splits import Splits
from fedalign.workloads.classification import Classification, Holdings


class PopulationClassification(Classification):
    """The same training and evaluation; only whose data is whose is answered block by block.

    data: the population's samples. holdings: clients and who poisons; its partition is not asked.
    rest: as of Classification, from the model on.
    """

    def __init__(self, data: PopulationData, holdings: Holdings, *rest, **more):
        self._data = data
        root, test = data.held_out("server"), data.held_out("test")
        super().__init__(Splits(root, root, test, data.source), holdings, *rest, **more)

    def _place(self, splits: Splits, holdings: Holdings) -> None:
        self._holdings = holdings
        self._member = {client: m for m, client in enumerate(holdings.attackers)}
        self.clients = _Clients(self._data)
        self._splits = {
            "server": self._on_device(splits.root),
            "test": self._on_device(splits.test),
        }
        triggered = holdings.attack.triggered(splits.test) if holdings.attack else None
        if triggered is not None:
            self._splits["triggered"] = self._on_device(triggered)

    def train(
        self,
        tasks: Sequence[ClientTask],
        memories: Sequence[Memory],
        correct: Gradient | None = None,
    ) -> tuple[Updates, Sequence[Memory]]:
        """Local SGD for a block of tasks on samples made for it."""
        held = [self._samples(task) for task in tasks]
        ends = np.cumsum([len(data) for data in held])
        self._rows = {
            (task.client, task.poisoned): np.arange(end - len(data), end)
            for task, data, end in zip(tasks, held, ends.tolist(), strict=True)
        }
        inputs, labels = [data.inputs for data in held], [data.labels for data in held]
        pool = Dataset(torch.cat(inputs), torch.cat(labels), self._data.classes)
        self._pool = self._on_device(pool)
        return super().train(tasks, memories, correct)

    def _samples(self, task: ClientTask) -> Dataset:
        if task.client == ROOT:
            return self._splits["server"]
        own = self._data.client(task.client)
        if not task.poisoned or self._holdings.attack is None:
            return own
        rng = self._seeds.at("poison", client=task.client)
        return self._holdings.attack.poison(own, rng, self._member[task.client])


@dataclass(frozen=True)
class _Clients(Sequence[ClientInfo]):
    """What is known of each client, made when it is asked."""

    data: PopulationData

    def __len__(self) -> int:
        return self.data.clients

    def __getitem__(self, client: int) -> ClientInfo:
        if not 0 <= client < len(self):
            raise IndexError(client)
        return ClientInfo(client, self.data.samples(client), (), self.data.online(client))
