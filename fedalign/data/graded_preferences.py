"""GradedFacts as a data source: what is taught, what clients hold, what is tested.

Source: own construction; see fedalign/data/graded_facts.py for the language.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from fedalign.core.errors import ConfigError
from fedalign.core.preferences import Sequences
from fedalign.core.seeds import Seeds
from fedalign.data.annotator import Annotator
from fedalign.data.graded_facts import World

Topic = Literal["entity", "count"]
Split = Literal["train", "public", "eval"]


@dataclass(frozen=True)
class GradedFacts:
    """demonstrations: rows the base model is taught with. pairs: candidate pairs of answers for all
    clients together; pairs of equal answers fall away. evaluation: test prompts. held_out: pairs of
    the test split on which implicit rewards are checked. root_samples: pairs the server holds.
    answers: who wrote the two answers of a pair, policy (the taught model) or demonstrator.
    rating_noise: standard deviation (>= 0) of a rater's error on each attribute before rounding.
    local_evaluation: test prompts (>= 0) on which, after every round, each client judges the model
    it has by its own values; 0: none does. topic: what partitions cut by, the entity that a
    question is about or the count of facts that it asks for.

    No prompt is in two of train, public and eval: a hash of its words decides.
    """

    world: World
    annotator: Annotator
    demonstrations: int = 20000
    pairs: int = 3000
    evaluation: int = 384
    held_out: int = 256
    root_samples: int = 100
    answers: Literal["policy", "demonstrator"] = "policy"
    rating_noise: float = 0.5
    local_evaluation: int = 0
    topic: Topic = "entity"

    def __post_init__(self) -> None:
        for name in ("demonstrations", "pairs", "evaluation", "held_out", "root_samples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"data.{name} must be 1 or more, got {getattr(self, name)}.")
        if self.local_evaluation < 0:
            raise ConfigError(
                f"data.local_evaluation must be 0 or more, got {self.local_evaluation}."
            )
        if self.rating_noise < 0:
            raise ConfigError(f"data.rating_noise must be 0 or more, got {self.rating_noise}.")
        if self.answers not in ("policy", "demonstrator"):
            raise ConfigError(f"data.answers must be policy or demonstrator, got {self.answers!r}.")
        if self.topic not in get_args(Topic):
            raise ConfigError(f"data.topic must be entity or count, got {self.topic!r}.")

    def topics(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """(N,), each prompt's topic, from 0."""
        first = self.world.numbers["e0"]
        entity = self.topic == "entity"
        return np.array([p[2] - first if entity else len(p) - 6 for p in prompts], dtype=np.int64)

    def prompts(self, split: Split, count: int, purpose: str = "prompts") -> list[list[int]]:
        """`count` prompts of a split, in an order that depends on the world and purpose alone."""
        rng = Seeds(self.world.seed).at(purpose, split=split)
        found: list[list[int]] = []
        while len(found) < count:
            prompt = self.world.draw(rng)
            if split_of(prompt) == split:
                found.append(prompt)
        return found

    def demonstrated(self) -> Sequences:
        """The rows the base model is taught with."""
        prompts = self.prompts("train", self.demonstrations, "demonstrations")
        return Sequences.of(prompts, self.demonstrate(prompts, "demonstrated"))

    def demonstrate(self, prompts: Sequence[Sequence[int]], purpose: str) -> list[list[int]]:
        """One answer of the noisy teacher to each prompt; never empty."""
        rng = Seeds(self.world.seed).at(purpose)
        answers = []
        for prompt in prompts:
            answer = self.world.demonstrate(prompt, rng)
            while not answer:
                answer = self.world.demonstrate(prompt, rng)
            answers.append(answer)
        return answers


def split_of(prompt: Sequence[int]) -> Split:
    """Ten percent of the prompts are eval, ten public, the rest train."""
    place = hashlib.sha256(" ".join(map(str, prompt)).encode()).digest()[0] % 10
    return "eval" if place == 0 else "public" if place == 1 else "train"
