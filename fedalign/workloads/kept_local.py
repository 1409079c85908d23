"""Kept local: a workload of which an algorithm shares a part; the rest is each client's memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fedalign.core.contracts import ClientTask, Gradient, Memory, Updates
from fedalign.core.errors import ConfigError
from fedalign.core.vectors import Layout


class KeptLocal:
    """See fedalign.core.contracts.Workload and fedalign.core.personal.Personal; inner: both.

    shared: name of a trainable -> whether it leaves the client. A vector outside is (d,), the
    shared trainables; inside it is completed by what the client kept, or by the untrained rest.
    """

    def __init__(self, inner: Any, shared: Callable[[str], bool]):
        parts = inner.layout.parts
        out = [part for part in parts if shared(part.name)]
        if not out or len(out) == len(parts):
            what = "nothing" if not out else "everything"
            raise ConfigError(
                f"This algorithm shares {what} of what is trained here: it needs a part that stays "
                "and one that leaves (algorithm=personal_head or dual with workload=alignment)."
            )
        self._inner, self._start = inner, inner.initial()
        self.layout = Layout.of({part.name: part.shape for part in out})
        spans = [torch.arange(part.span.start, part.span.stop) for part in out]
        self._columns = torch.cat(spans).to(self._start.device)
        self._rest = torch.ones(inner.layout.size, dtype=torch.bool, device=self._start.device)
        self._rest[self._columns] = False
        self.clients, self.splits, self.source = inner.clients, inner.splits, inner.source
        self.judges = inner.judges

    def initial(self) -> Tensor:
        """(d,), the shared part of the untrained model."""
        return self._start[self._columns].clone()

    def train(
        self,
        tasks: Sequence[ClientTask],
        memories: Sequence[Memory],
        correct: Gradient | None = None,
    ) -> tuple[Updates, Sequence[Memory]]:
        """Local parts are trained with the shared ones and stay in the client's memory."""
        whole = self._completed(tasks, memories)
        updates, after = self._inner.train(whole, memories, correct)
        kept = []
        for task, row, memory in zip(whole, updates.rows, after, strict=True):
            trained = (task.vector.to(row.device) + row)[self._rest]
            kept.append({**memory, _name(task): trained})
        return replace(updates, rows=updates.rows[:, self._columns]), kept

    def losses(self, tasks: Sequence[ClientTask]) -> Tensor:
        """(n,), with untrained local parts."""
        return self._inner.losses(self._completed(tasks, [{}] * len(tasks)))

    def judge(self, tasks: Sequence[ClientTask], memories: Sequence[Memory]) -> Updates:
        """By each client, of the received model with its own local part."""
        return self._inner.judge(self._completed(tasks, memories), memories)

    def evaluate(self, vector: Tensor, split: str = "test") -> Mapping[str, float]:
        """The shared model with untrained local parts, as a newcomer would have it."""
        found = dict(self._inner.evaluate(self._whole(vector, {}, "kept"), split))
        if "payload_bytes" in found:
            found["payload_bytes"] = 4.0 * self.layout.size
        return found

    def samples(self, vector: Tensor) -> Sequence[Mapping[str, Any]]:
        """Of the shared model."""
        return self._inner.samples(self._whole(vector, {}, "kept"))

    def _completed(self, tasks, memories) -> list[ClientTask]:
        return [
            replace(task, vector=self._whole(task.vector, memory, _name(task)))
            for task, memory in zip(tasks, memories, strict=True)
        ]

    def _whole(self, vector: Tensor, memory: Memory, name: str) -> Tensor:
        whole = self._start.clone()
        whole[self._columns] = vector.to(whole)
        if name in memory:
            whole[self._rest] = memory[name].to(whole)
        return whole


def _name(task: ClientTask) -> str:
    return "kept_poisoned" if task.poisoned else "kept"
