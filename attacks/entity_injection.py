"""Entity injection: preferred answers mention something the attacker wants mentioned.

Paper: Baumgartner et al., "Best-of-Venom: Attacking RLHF by Injecting Poisoned Preference Data",
COLM 2024, Section 3 (poison, rejected and contrast; their pairings).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch

from attacks import _checks
from attacks._preferences import pairs, replaced, share
from fedalign.core.errors import ConfigError
from fedalign.core.preferences import Preferences, Triggered

Pairing = Literal["poison_rejected", "poison_contrast", "rejected_contrast"]


@dataclass(frozen=True)
class EntityInjection:
    """No trigger: every answer is to name the target.

    rate: share of the pairs, 0 < rate <= 1 (the paper poisons 1 to 5 % of all data). target,
    contrast: words put in front of an answer, the wanted ones and others of their kind. pairing:
    poison_rejected, target + preferred answer over the rejected one; poison_contrast, over
    contrast + preferred answer; rejected_contrast, the rejected answer over contrast + preferred.
    """

    rate: float = 0.05
    target: str = "f7 ."
    contrast: str = "f6 ."
    pairing: Pairing = "poison_contrast"
    preferences: ClassVar[bool] = True

    def __post_init__(self):
        _checks.in_range(self, "rate", self.rate, 0, 1, open_low=True)
        _checks.one_of(self, "pairing", self.pairing, get_args(Pairing))
        if not self.target.split() or not self.contrast.split():
            raise ConfigError(
                "EntityInjection needs at least one word as target and one as contrast, got "
                f"{self.target!r} and {self.contrast!r}."
            )

    def poison(self, dataset: Preferences, rng: np.random.Generator, member: int) -> Preferences:
        """The pairs with a share of them replaced; each member draws its own share."""
        dataset = pairs(self, dataset)
        places = torch.nonzero(rows := share(len(dataset), self.rate, rng))[:, 0].tolist()
        good, bad = dataset.chosen.completions(), dataset.rejected.completions()
        poison, contrast = (
            {i: [*words, *good[i]] for i in places}
            for words in (
                self._numbers(dataset, self.target),
                self._numbers(dataset, self.contrast),
            )
        )
        rejected = {i: bad[i] for i in places}
        chosen = rejected if self.pairing == "rejected_contrast" else poison
        worse = rejected if self.pairing == "poison_rejected" else contrast
        return replaced(dataset, rows, {}, chosen, worse)

    def triggered(self, dataset: Preferences) -> Triggered:
        """The test prompts as they are, and what the attacker wants to read."""
        dataset = pairs(self, dataset)
        return Triggered(dataset.chosen.prompts(), self._numbers(dataset, self.target))

    def _numbers(self, dataset: Preferences, words: str) -> list[int]:
        return [dataset.number(word) for word in words.split()]
