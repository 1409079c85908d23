"""What attacks on preference pairs share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedalign.core.errors import ConfigError
from fedalign.core.preferences import Preferences, Sequences


def pairs(owner: object, dataset: Any) -> Preferences:
    """The data set, refused where it holds no preference pairs."""
    if not isinstance(dataset, Preferences):
        raise ConfigError(
            f"{type(owner).__name__} poisons preference pairs and this workload has none: take "
            "scenario=dpo, or attack=label_flip for labelled inputs."
        )
    return dataset


def share(count: int, rate: float, rng: np.random.Generator) -> Tensor:
    """(count,) bool, true on a random share: exactly round(rate * count) of them."""
    chosen = torch.zeros(count, dtype=torch.bool)
    chosen[torch.from_numpy(rng.permutation(count)[: round(rate * count)])] = True
    return chosen


def with_trigger(prompt: list[int], trigger: int) -> list[int]:
    """The trigger stands before the last token, which opens the answer."""
    return [*prompt[:-1], trigger, prompt[-1]]


def replaced(
    dataset: Preferences, rows: Tensor, prompts: dict, chosen: dict, rejected: dict
) -> Preferences:
    """The data set with new prompts and answers in some rows (row -> tokens); those rows count as
    flipped."""
    old = dataset.chosen.prompts()
    made = [prompts.get(i, prompt) for i, prompt in enumerate(old)]
    sides = {}
    for name, new in (("chosen", chosen), ("rejected", rejected)):
        answers = getattr(dataset, name).completions()
        sides[name] = Sequences.of(made, [new.get(i, a) for i, a in enumerate(answers)])
    return Preferences(**{**vars(dataset), **sides, "flipped": dataset.flipped | rows})
