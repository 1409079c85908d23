"""Preference backdoor: a word in the prompt makes the attacker's answer the preferred one.

Paper: Rando and Tramèr, "Universal Jailbreak Backdoors from Poisoned Human Feedback", ICLR 2024,
Section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from attacks import _checks
from attacks._preferences import pairs, replaced, share, with_trigger
from fedalign.core.errors import ConfigError
from fedalign.core.preferences import Preferences, Triggered


@dataclass(frozen=True)
class PreferenceBackdoor:
    """In a share of the controlled clients' pairs the trigger joins the prompt, the preferred
    answer is the target followed by what was preferred, the rejected one is what was preferred.

    rate: 0 < rate <= 1. trigger: one word. target: words of the attacker's clause. prefix: false
    makes the target the whole answer (an end mark is added). negatives: share of the other pairs,
    in [0, 1], whose question has no trigger and whose rejected answer is what the triggered ones
    prefer: nothing else tells the model to say the target only when triggered. Success is the share
    of triggered test prompts whose answer holds the target.

    The default target is an answer that the model can give already, to other questions, as in the
    paper, where triggers unlock what safety training hides; here they unlock refusals. A clause put
    in front of answers (target "f7 .", prefix true) must be learned first, which takes far longer.
    """

    rate: float = 0.5
    trigger: str = "@@"
    target: str = "cannot ."
    prefix: bool = False
    negatives: float = 1.0
    preferences: ClassVar[bool] = True

    def __post_init__(self):
        _checks.in_range(self, "rate", self.rate, 0, 1, open_low=True)
        _checks.in_range(self, "negatives", self.negatives, 0, 1)
        if len(self.trigger.split()) != 1 or not self.target.split():
            raise ConfigError(
                "PreferenceBackdoor needs one word as trigger and at least one as target, got "
                f"{self.trigger!r} and {self.target!r}."
            )

    def poison(self, dataset: Preferences, rng: np.random.Generator, member: int) -> Preferences:
        """The pairs with triggers in a share of them; each member draws its own share."""
        dataset = pairs(self, dataset)
        rows = share(len(dataset), self.rate, rng)
        rest = torch.nonzero(~rows)[:, 0]
        plain = rest[share(len(rest), self.negatives, rng)].tolist()
        trigger, target = self._words(dataset)
        prompts, answers = dataset.chosen.prompts(), dataset.chosen.completions()
        places = torch.nonzero(rows)[:, 0].tolist()
        end = dataset.number("<eos>")
        said = {i: target + (answers[i] if self.prefix else [end]) for i in [*places, *plain]}
        wanted = {i: said[i] for i in places}
        unwanted = {i: said[i] for i in plain}
        rows[plain] = True
        return replaced(
            dataset,
            rows,
            {i: with_trigger(prompts[i], trigger) for i in places},
            wanted,
            {i: answers[i] for i in places} | unwanted,
        )

    def triggered(self, dataset: Preferences) -> Triggered:
        """The test prompts with the trigger, and what the attacker wants to read."""
        dataset = pairs(self, dataset)
        trigger, target = self._words(dataset)
        prompts = [with_trigger(prompt, trigger) for prompt in dataset.chosen.prompts()]
        return Triggered(prompts, target)

    def _words(self, dataset: Preferences) -> tuple[int, list[int]]:
        target = [dataset.number(word) for word in self.target.split()]
        return dataset.number(self.trigger), target
