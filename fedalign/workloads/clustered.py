"""Clustered: several models of one workload side by side in a vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fedalign.core.contracts import ClientTask, Gradient, Memory, Updates
from fedalign.core.personal import Voting
from fedalign.core.vectors import Layout


class Clustered:
    """See fedalign.core.contracts.Workload and fedalign.core.personal.Many. single: the workload
    of one model. count: models, 2 .. 9; their names begin with `cluster/<k>/`."""

    def __init__(self, single: Any, count: int):
        self.single, self.count = single, count
        shapes = {
            f"cluster/{k}/{part.name}": part.shape
            for k in range(count)
            for part in single.layout.parts
        }
        self.layout = Layout.of(shapes)
        self.clients, self.splits, self.source = single.clients, single.splits, single.source
        self.judges = single.judges

    def initial(self) -> Tensor:
        """(count d,), the same untrained model `count` times."""
        return self.single.initial().repeat(self.count)

    def model(self, vector: Tensor, cluster: int) -> Tensor:
        """(count d,) -> (d,)."""
        size = self.single.layout.size
        return vector[cluster * size : (cluster + 1) * size]

    def spread(self, rows: Tensor, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(n, d) -> (n, count d) and the mask (n, tensors); chosen -1 answers for every model."""
        size, tensors = self.single.layout.size, len(self.single.layout.parts)
        wide = rows.new_zeros(len(rows), self.layout.size)
        mask = torch.zeros(len(rows), len(self.layout.parts), dtype=torch.bool)
        for i, choice in enumerate(chosen):
            for cluster in range(self.count) if choice < 0 else (choice,):
                wide[i, cluster * size : (cluster + 1) * size] = rows[i]
                mask[i, cluster * tensors : (cluster + 1) * tensors] = True
        return wide, mask

    def train(
        self,
        tasks: Sequence[ClientTask],
        memories: Sequence[Memory],
        correct: Gradient | None = None,
    ) -> tuple[Updates, Sequence[Memory]]:
        """All models on the same data, as the server does with its own."""
        blocks = []
        for k in range(self.count):
            alone = [replace(task, vector=self.model(task.vector, k)) for task in tasks]
            blocks.append(self.single.train(alone, memories, correct)[0])
        rows = torch.cat([block.rows for block in blocks], dim=1)
        return replace(blocks[0], rows=rows), memories

    def evaluate(self, vector: Tensor, split: str = "test") -> Mapping[str, float]:
        """The mean over the models, as somebody at any of them would see it; where they can vote,
        what the majority is worth, and the mean as `<name>_each`."""
        models = [self.model(vector, k) for k in range(self.count)]
        found = [self.single.evaluate(model, split) for model in models]
        mean = {name: sum(f[name] for f in found) / self.count for name in found[0]}
        if "payload_bytes" in mean:
            mean["payload_bytes"] = 4.0 * self.layout.size
        if split != "test" or not isinstance(self.single, Voting):
            return mean
        voted = self.single.voted(models)
        return {**mean, **voted, **{f"{name}_each": mean[name] for name in voted}}


class ClusteredSpeakers(Clustered):
    """The same of models that write text; see fedalign.core.contracts.Speaking."""

    def samples(self, vector: Tensor) -> Sequence[Mapping[str, Any]]:
        """Of every model, the cluster in each row."""
        return [
            {"cluster": k, **row}
            for k in range(self.count)
            for row in self.single.samples(self.model(vector, k))
        ]
