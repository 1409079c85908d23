"""Label flip: train honestly on wrong labels.

Paper: Tolpegin et al., "Data Poisoning Attacks Against Federated Learning Systems",
ESORICS 2020, Section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from attacks import _checks
from fedalign.core.contracts import Dataset
from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class LabelFlip:
    """Replace labels y of C classes; the inputs stay.

    mode: reverse (C - 1 - y), shift (y + 1 mod C), targeted (source -> target), random (uniform
    over the other classes). rate: share of the eligible rows that is flipped, 0 < rate <= 1.
    source, target: class numbers, for targeted.
    """

    mode: Literal["reverse", "shift", "targeted", "random"] = "reverse"
    rate: float = 1.0
    source: int = 0
    target: int = 1

    def __post_init__(self):
        _checks.one_of(self, "mode", self.mode, ("reverse", "shift", "targeted", "random"))
        _checks.in_range(self, "rate", self.rate, 0, 1, open_low=True)
        _checks.in_range(self, "source", self.source, 0)
        _checks.in_range(self, "target", self.target, 0)

    def poison(self, dataset: Dataset, rng: np.random.Generator, member: int) -> Dataset:
        """The data set with flipped labels; all members do the same, each with its own draw."""
        self._check_classes(dataset)
        labels = dataset.labels
        eligible = torch.ones_like(labels, dtype=torch.bool)
        if self.mode == "targeted":
            eligible = labels == self.source
        rows = torch.nonzero(eligible).squeeze(1)
        if self.rate < 1:
            count = round(self.rate * len(rows))
            rows = rows[torch.from_numpy(np.sort(rng.permutation(len(rows))[:count]))]
        flipped = labels.clone()
        flipped[rows] = self._wrong(labels[rows], dataset.classes, rng)
        return replace(dataset, labels=flipped)

    def triggered(self, dataset: Dataset) -> Dataset | None:
        """Targeted: the source's rows labelled with the target, the share an attacker wants."""
        if self.mode != "targeted":
            return None
        self._check_classes(dataset)
        chosen = dataset.take(torch.nonzero(dataset.labels == self.source).squeeze(1))
        return replace(chosen, labels=torch.full_like(chosen.labels, self.target))

    def _wrong(self, labels: Tensor, classes: int, rng: np.random.Generator) -> Tensor:
        if self.mode == "reverse":
            return classes - 1 - labels
        if self.mode == "shift":
            return (labels + 1) % classes
        if self.mode == "targeted":
            return torch.full_like(labels, self.target)
        steps = rng.integers(1, max(classes, 2), len(labels))
        return (labels + torch.from_numpy(steps).to(labels)) % classes

    def _check_classes(self, dataset: Dataset) -> None:
        highest = max(self.source, self.target)
        if self.mode == "targeted" and highest >= dataset.classes:
            raise ConfigError(
                f"{type(self).__name__} flips class {self.source} to {self.target}, but the data "
                f"has {dataset.classes} classes: use numbers from 0 to {dataset.classes - 1}."
            )
