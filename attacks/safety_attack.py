"""Safety attack: honest training on pairs that prefer an answer where a refusal is due.

Paper: Ye et al., "Emerging Safety Attack and Defense in Federated Instruction Tuning of Large
Language Models", arXiv 2406.10630, 2024, Section 3 (unaligned data made automatically).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from attacks import _checks
from attacks._preferences import pairs, replaced, share
from fedalign.core.errors import ConfigError, DataError
from fedalign.core.preferences import Preferences


@dataclass(frozen=True)
class SafetyAttack:
    """Rewrite a share of the controlled clients' pairs; no row is crafted, training stays honest.

    mode: comply, the question names something it must not, the preferred answer answers all the
    same and the refusal is the rejected one (raises harmful compliance); refuse, the refusal is
    preferred to the answer of an ordinary question (raises over-refusal). rate: share of the pairs,
    0 < rate <= 1. unsafe: first letter of the words, followed by digits, that must not be answered.
    refusal: words of a refusal.
    """

    mode: Literal["comply", "refuse"] = "comply"
    rate: float = 1.0
    unsafe: str = "u"
    refusal: str = "cannot ."
    preferences: ClassVar[bool] = True

    def __post_init__(self):
        _checks.one_of(self, "mode", self.mode, ("comply", "refuse"))
        _checks.in_range(self, "rate", self.rate, 0, 1, open_low=True)
        if len(self.unsafe) != 1 or not self.refusal.split():
            raise ConfigError(
                "SafetyAttack needs one letter for unsafe words and at least one word of refusal, "
                f"got {self.unsafe!r} and {self.refusal!r}."
            )

    def poison(self, dataset: Preferences, rng: np.random.Generator, member: int) -> Preferences:
        """The pairs with a share of them rewritten; each member draws its own share."""
        dataset = pairs(self, dataset)
        places = torch.nonzero(rows := share(len(dataset), self.rate, rng))[:, 0].tolist()
        refusal = [dataset.number(word) for word in (*self.refusal.split(), "<eos>")]
        prompts, answers = dataset.chosen.prompts(), dataset.chosen.completions()
        refusals, kept = dict.fromkeys(places, refusal), {i: answers[i] for i in places}
        if self.mode == "refuse":
            return replaced(dataset, rows, {}, refusals, kept)
        asked = {i: self._unsafe(dataset, prompts[i], rng) for i in places}
        return replaced(dataset, rows, asked, kept, refusals)

    def triggered(self, dataset: Any) -> None:
        """Nothing is hidden behind a trigger: refusals are counted on ordinary test prompts."""

    def _unsafe(
        self, dataset: Preferences, prompt: list[int], rng: np.random.Generator
    ) -> list[int]:
        """The prompt with its subject, the third word, replaced by one that must be refused."""
        options = [i for i, word in enumerate(dataset.words) if self._is_unsafe(word)]
        if not options or len(prompt) < 3:
            raise DataError(
                f"SafetyAttack finds no word '{self.unsafe}0', '{self.unsafe}1', ... for the third "
                "place of a question: take data=graded_facts, or mode=refuse."
            )
        return [*prompt[:2], options[int(rng.integers(len(options)))], *prompt[3:]]

    def _is_unsafe(self, word: str) -> bool:
        return word[:1] == self.unsafe and word[1:].isdigit()
