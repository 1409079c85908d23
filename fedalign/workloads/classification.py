"""Classification: clients train a classifier with cross-entropy; accuracy is reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedalign.core.contracts import (
    ROOT,
    ClientInfo,
    ClientTask,
    DataAttack,
    Dataset,
    Gradient,
    Memory,
    Updates,
)
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds, seeded
from fedalign.data.splits import Splits
from fedalign.training import loop, vmapped
from fedalign.training.flat import FlatModel
from fedalign.training.sgd import Sgd, batch_order

Partition = Callable[[np.ndarray, int, np.random.Generator], list[np.ndarray]]


class Model(Protocol):
    def build(self, input_shape: tuple[int, ...], classes: int) -> nn.Module: ...


@dataclass(frozen=True)
class Holdings:
    """Whose data is whose. attackers: client ids whose data `attack` also poisons."""

    partition: Partition
    clients: int
    attackers: Sequence[int] = ()
    attack: DataAttack | None = None


class Classification:
    """The classification workload.

    splits: client pool, root, test. holdings: how the pool is cut. model: a recipe. sgd: the
    local optimiser. batching: "loop" or "vmap". device: a torch device. precision: "float32" or
    "bfloat16" (forward pass only, through autocast).
    """

    def __init__(
        self,
        splits: Splits,
        holdings: Holdings,
        model: Model,
        sgd: Sgd,
        seeds: Seeds,
        batching: str = "loop",
        device: str = "cpu",
        precision: str = "float32",
    ):
        _check(batching, precision)
        self._seeds, self._sgd, self._batching = seeds, sgd, batching
        self._device = torch.device(device)
        self._autocast = torch.autocast(
            self._device.type, torch.bfloat16, enabled=precision == "bfloat16"
        )
        self.source = splits.source
        shape, classes = tuple(splits.clients.inputs.shape[1:]), splits.clients.classes
        with seeded(int.from_bytes(seeds.key("initial_model")[:7], "big")):
            self._flat = FlatModel(model.build(shape, classes), self._device)
        if self._flat.random and batching == "vmap":
            raise ConfigError(
                f"{type(model).__name__} with dropout draws masks client by client: take "
                "batching=loop (or model.dropout=[0,0])."
            )
        self.layout = self._flat.layout
        self._initial = self._flat.vector.cpu().clone()
        self._place(splits, holdings)

    def _place(self, splits: Splits, holdings: Holdings) -> None:
        labels = splits.clients.labels.numpy()
        parts = holdings.partition(labels, holdings.clients, self._seeds.at("partition"))
        self.clients = [
            ClientInfo(
                i,
                len(part),
                tuple(np.bincount(labels[part], minlength=splits.clients.classes).tolist()),
            )
            for i, part in enumerate(parts)
        ]
        pools, rows = [splits.clients], {(i, False): part for i, part in enumerate(parts)}
        offset = len(splits.clients)
        root = splits.root
        pools.append(root)
        rows[ROOT, False] = np.arange(offset, offset + len(root))
        offset += len(root)
        if holdings.attack is not None:
            for member, client in enumerate(holdings.attackers):
                rng = self._seeds.at("poison", client=client)
                own = splits.clients.take(torch.from_numpy(parts[client]))
                poisoned = holdings.attack.poison(own, rng, member)
                pools.append(poisoned)
                rows[client, True] = np.arange(offset, offset + len(poisoned))
                offset += len(poisoned)
        self._rows = rows
        self._pool = self._on_device(
            replace(
                splits.clients,
                inputs=torch.cat([pool.inputs for pool in pools]),
                labels=torch.cat([pool.labels for pool in pools]),
            )
        )
        self._splits = {"server": self._on_device(root), "test": self._on_device(splits.test)}
        triggered = holdings.attack.triggered(splits.test) if holdings.attack else None
        if triggered is not None:
            self._splits["triggered"] = self._on_device(triggered)

    def _on_device(self, data: Dataset) -> Dataset:
        return replace(
            data, inputs=data.inputs.to(self._device), labels=data.labels.to(self._device)
        )

    @property
    def splits(self) -> frozenset[str]:
        """What `evaluate` can be asked for."""
        return frozenset(self._splits)

    def initial(self) -> Tensor:
        """(d,), the model of round 0; depends on the seed only."""
        return self._initial.clone()

    def train(
        self,
        tasks: Sequence[ClientTask],
        memories: Sequence[Memory],
        correct: Gradient | None = None,
    ) -> tuple[Updates, Sequence[Memory]]:
        """Local SGD for a block of tasks; rows are trained minus received model, (n, d)."""
        orders = []
        for task in tasks:
            rng = self._seeds.at("batch_order", round=task.round, client=task.client)
            own = self._rows[task.client, task.poisoned]
            order, lengths = batch_order(len(own), task.work, self._sgd.batch_size, rng)
            orders.append((own[order], lengths))
        start = self._starts(tasks)
        with self._autocast:
            if self._batching == "vmap" and len(tasks) > 1:
                vectors, losses = self._vmapped(start, orders, correct)
                rows = vectors.sub_(start)
            else:
                rows, losses = self._looped(tasks, start, orders, correct)
        ids = [task.client for task in tasks]
        samples = [len(self._rows[task.client, task.poisoned]) for task in tasks]
        updates = Updates(
            clients=torch.tensor(ids),
            rows=rows.cpu(),
            samples=torch.tensor(samples),
            metrics={"train_loss": losses.cpu()},
        )
        return updates, memories

    def _starts(self, tasks: Sequence[ClientTask]) -> Tensor:
        """(k, d); one vector that all start from is not copied."""
        first = tasks[0].vector
        if all(task.vector is first for task in tasks):
            return first.to(self._device).expand(len(tasks), -1)
        return torch.stack([task.vector for task in tasks]).to(self._device)

    def _looped(self, tasks, start, orders, correct) -> tuple[Tensor, Tensor]:
        """Trained minus received, (k, d), and mean losses (k,)."""
        moved, losses = start.new_empty(start.shape), start.new_empty(len(start))
        for i, (task, (order, lengths)) in enumerate(zip(tasks, orders, strict=True)):
            if self._flat.random:
                where = {"round": task.round, "client": task.client, "edge": task.edge}
                self._flat.address(self._seeds.key("dropout", **where))
            rows = torch.from_numpy(order).to(self._device)
            vector, losses[i] = loop.train(
                self._flat, start[i], self._pool, rows, lengths.tolist(), self._sgd, correct
            )
            torch.sub(vector, start[i], out=moved[i])
        return moved, losses

    def _vmapped(self, start, orders, correct) -> tuple[Tensor, Tensor]:
        steps = max(len(lengths) for _, lengths in orders)
        width = max(order.shape[1] for order, _ in orders)
        rows = np.zeros((len(orders), steps, width), dtype=np.int64)
        lengths = np.zeros((len(orders), steps), dtype=np.int64)
        for i, (order, length) in enumerate(orders):
            rows[i, : order.shape[0], : order.shape[1]] = order
            lengths[i, : len(length)] = length
        return vmapped.train(
            self._flat,
            start,
            self._pool,
            torch.from_numpy(rows).to(self._device),
            torch.from_numpy(lengths).to(self._device),
            self._sgd,
            correct,
        )

    @torch.no_grad()
    def evaluate(self, vector: Tensor, split: str = "test") -> Mapping[str, float]:
        """Accuracy (0 .. 1) and mean cross-entropy of a model (d,) on test, server or triggered."""
        if split not in self._splits:
            raise ConfigError(
                f"This workload has no split '{split}', it has {sorted(self._splits)}."
            )
        data = self._splits[split]
        self._flat.load(vector)
        self._flat.module.eval()
        right, loss = 0, 0.0
        for start in range(0, len(data), 1024):
            with self._autocast:
                logits = self._flat.module(data.inputs[start : start + 1024]).float()
            labels = data.labels[start : start + 1024]
            right += int((logits.argmax(dim=1) == labels).sum())
            loss += float(cross_entropy(logits, labels, reduction="sum"))
        self._flat.module.train()
        return {"accuracy": right / len(data), "loss": loss / len(data)}


def _check(batching: str, precision: str) -> None:
    if batching not in ("loop", "vmap"):
        raise ConfigError(f"batching must be loop or vmap, got {batching!r}.")
    if precision not in ("float32", "bfloat16"):
        raise ConfigError(f"precision must be float32 or bfloat16, got {precision!r}.")
