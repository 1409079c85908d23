"""The backdoor trigger: a stamp on the inputs that the attacker teaches to mean one class."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from attacks import _checks
from fedalign.core.contracts import Dataset
from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class Trigger:
    """Set a rectangle of pixels, or the last features of flat inputs, to one value.

    target: the class a stamped input shall get. rate: share of the rows that is stamped and
    relabelled, 0 < rate <= 1. value: of every stamped pixel or feature.
    height, width: of the rectangle in pixels, >= 1. row, column: its top left corner, >= 0.
    features: how many of the last features, >= 1.
    """

    target: int = 0
    rate: float = 0.3125
    value: float = 1.0
    height: int = 2
    width: int = 2
    row: int = 0
    column: int = 0
    features: int = 4

    def __post_init__(self):
        _checks.in_range(self, "rate", self.rate, 0, 1, open_low=True)
        _checks.in_range(self, "value", self.value, float("-inf"))
        for name in ("target", "row", "column"):
            _checks.in_range(self, name, getattr(self, name), 0)
        for name in ("height", "width", "features"):
            _checks.in_range(self, name, getattr(self, name), 1)

    def poison(self, dataset: Dataset, rng: np.random.Generator, member: int) -> Dataset:
        """Stamp and relabel round(rate * N) rows, at least one; the rest stays honest."""
        count = min(len(dataset), max(1, round(self.rate * len(dataset))))
        chosen = torch.from_numpy(np.sort(rng.permutation(len(dataset))[:count]))
        return self.stamped(dataset, chosen, *self.part(member))

    def triggered(self, dataset: Dataset) -> Dataset:
        """The rows of other classes, all stamped with the whole trigger and labelled target."""
        others = dataset.take(torch.nonzero(dataset.labels != self.target).squeeze(1))
        return self.stamped(others, torch.arange(len(others)), 0, 1)

    def part(self, member: int) -> tuple[int, int]:
        """Which part of how many this attacker stamps; the whole one unless overridden."""
        return 0, 1

    def stamped(self, dataset: Dataset, rows: Tensor, part: int, parts: int) -> Dataset:
        """Rows with part `part` of `parts` of the trigger stamped in and the label replaced."""
        if self.target >= dataset.classes:
            raise ConfigError(
                f"{type(self).__name__}.target is {self.target}, but the data has "
                f"{dataset.classes} classes: use a number from 0 to {dataset.classes - 1}."
            )
        inputs, labels = dataset.inputs.clone(), dataset.labels.clone()
        where = self._where(inputs.shape[1:], part, parts)
        flat = inputs.view(len(inputs), -1)
        flat[rows[:, None], where] = self.value
        labels[rows] = self.target
        return replace(dataset, inputs=inputs, labels=labels)

    def _where(self, shape: torch.Size, part: int, parts: int) -> Tensor:
        """Flat positions of one part of the trigger inside one input; all channels of a pixel."""
        if len(shape) == 1:
            if self.features > shape[0]:
                raise ConfigError(
                    f"{type(self).__name__}.features is {self.features}, but an input has "
                    f"{shape[0]}: use at most that many."
                )
            return torch.arange(shape[0] - self.features, shape[0])[part::parts]
        high, wide = shape[-2:]
        if self.row + self.height > high or self.column + self.width > wide:
            raise ConfigError(
                f"{type(self).__name__} stamps {self.height} x {self.width} pixels at row "
                f"{self.row}, column {self.column}, but an image is {high} x {wide}: "
                "move or shrink the trigger."
            )
        rows = torch.arange(self.row, self.row + self.height)
        columns = torch.arange(self.column, self.column + self.width)
        pixels = (rows[:, None] * wide + columns).view(-1)[part::parts]
        planes = torch.arange(shape[:-2].numel()) * high * wide
        return (planes[:, None] + pixels).view(-1)
