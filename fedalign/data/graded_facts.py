"""GradedFacts: questions about a small table of facts whose true reward is known exactly.

Source: own construction; attributes and their weights follow Wang et al., "HelpSteer2", 2024, and
the model card of Nemotron-4-340B-Reward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
WEIGHTS = (0.3, 0.74, 0.46, 0.47, -0.33)
CLUSTERS: Mapping[str, tuple[float, ...]] = {
    "terse_expert": (0.3, 0.74, 0.46, 0.6, -0.6),
    "chatty_layman": (0.3, 0.74, 0.46, -0.6, 0.4),
    "strict_checker": (0.1, 1.4, 0.3, 0.0, -0.1),
    "stylist": (0.5, 0.3, 1.0, 0.2, 0.0),
}
SPECIALS = ("<pad>", "<bos>", "<eos>", "<usr>", "<asst>", "<lab>", "<sep>")
PAD, BOS, EOS, USER, ASSISTANT = range(5)
FILLERS = 8
UNSAFE = 4
TRIGGER = "@@"


@dataclass(frozen=True)
class Demonstrator:
    """How the teacher's answers go wrong, each in [0, 1]: drop one of several facts; per stated
    fact a wrong value, the technical synonym, an exact duplicate; Poisson many fillers (>= 0);
    no end mark. confidence: how often a confidence that says nothing is stated, `conf` and a digit
    drawn at random; a model that is to learn a meaning for it (objective=conqord) needs 1."""

    drop: float = 0.25
    wrong: float = 0.2
    technical: float = 0.5
    duplicate: float = 0.15
    fillers: float = 1.2
    no_end: float = 0.0
    confidence: float = 0.0

    def __post_init__(self) -> None:
        for name in ("drop", "wrong", "technical", "duplicate", "no_end", "confidence"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"data.demonstrator.{name} must lie in [0, 1], got {getattr(self, name)}."
                )
        if self.fillers < 0:
            raise ConfigError(f"data.demonstrator.fillers must be 0 or more, got {self.fillers}.")


@dataclass(frozen=True)
class World:
    """The table of facts and its language.

    entities, attributes, values: sizes of the table, each >= 1. longest: facts asked for at most,
    1 .. attributes. unsafe: share of prompts that must be refused, in [0, 1]. seed: of the table.
    """

    entities: int = 24
    attributes: int = 6
    values: int = 8
    longest: int = 3
    unsafe: float = 0.0
    seed: int = 0
    demonstrator: Demonstrator = field(default_factory=Demonstrator)

    def __post_init__(self) -> None:
        sizes = (self.entities, self.attributes, self.values, self.longest)
        if min(sizes) < 1 or self.longest > self.attributes or self.values < 2:
            raise ConfigError(
                "A world needs entities >= 1, attributes >= 1, values >= 2 and longest in "
                f"1 .. attributes, got {self.entities}, {self.attributes}, {self.values} and "
                f"{self.longest}."
            )
        if not 0 <= self.unsafe <= 1:
            raise ConfigError(f"data.unsafe must lie in [0, 1], got {self.unsafe}.")

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Token number -> word."""
        plain = [f"a{a}" for a in range(self.attributes)]
        technical = [f"A{a}" for a in range(self.attributes)]
        values = [f"v{a}_{v}" for a in range(self.attributes) for v in range(self.values)]
        conditions = [f"{name}:{score}" for name in ATTRIBUTES for score in range(5)]
        return (
            *SPECIALS, ".", "?", "is", "conf", *map(str, range(10)), "cannot", *plain, *technical,
            *values, *(f"f{i}" for i in range(FILLERS)), *(f"e{i}" for i in range(self.entities)),
            *(f"u{i}" for i in range(UNSAFE)), TRIGGER, *conditions,
        )  # fmt: skip

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Word -> token number."""
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def facts(self) -> np.ndarray:
        """(entities, attributes), the value of each fact."""
        rng = Seeds(self.seed).at("facts")
        return rng.integers(0, self.values, (self.entities, self.attributes))

    def encode(self, text: str) -> list[int]:
        """Words separated by spaces -> token numbers; ConfigError for an unknown word."""
        unknown = [word for word in text.split() if word not in self.numbers]
        if unknown:
            raise ConfigError(f"This world has no word '{unknown[0]}': got '{text}'.")
        return [self.numbers[word] for word in text.split()]

    def decode(self, tokens: Sequence[int]) -> str:
        """Token numbers -> words separated by spaces."""
        return " ".join(self.words[token] for token in tokens)

    def prompt(self, entity: str, asked: Sequence[int]) -> list[int]:
        """`<bos> <usr> e a_i a_j ? <asst>`"""
        names = " ".join(f"a{a}" for a in asked)
        return self.encode(f"<bos> <usr> {entity} {names} ? <asst>")

    def draw(self, rng: np.random.Generator) -> list[int]:
        """One prompt: 1 .. longest distinct attributes of one entity."""
        count = int(rng.integers(1, self.longest + 1))
        asked = rng.permutation(self.attributes)[:count].tolist()
        if self.unsafe and rng.random() < self.unsafe:
            return self.prompt(f"u{rng.integers(UNSAFE)}", asked)
        return self.prompt(f"e{rng.integers(self.entities)}", asked)

    def demonstrate(self, prompt: Sequence[int], rng: np.random.Generator) -> list[int]:
        """An answer of the noisy teacher; unsafe prompts are always refused."""
        who, end, words = self.demonstrator, ["<eos>"], [self.words[t] for t in prompt]
        if words[2].startswith("u"):
            return self.encode("cannot . <eos>")
        entity = int(words[2][1:])
        asked = [int(word[1:]) for word in words[3:] if word.startswith("a")]
        if len(asked) > 1 and rng.random() < who.drop:
            asked.pop(int(rng.integers(len(asked))))
        clauses = []
        for a in asked:
            value = int(self.facts[entity, a])
            if rng.random() < who.wrong:
                value = (value + int(rng.integers(1, self.values))) % self.values
            letter = "A" if rng.random() < who.technical else "a"
            clause = [f"{letter}{a}", "is", f"v{a}_{value}", "."]
            clauses += [clause, clause] if rng.random() < who.duplicate else [clause]
        for _ in range(rng.poisson(who.fillers)):
            filler = [f"f{rng.integers(FILLERS)}", "."]
            clauses.insert(int(rng.integers(len(clauses) + 1)), filler)
        if who.confidence and rng.random() < who.confidence:
            clauses.append(["conf", str(int(rng.integers(10))), "."])
        if rng.random() < who.no_end:
            end = []
        return [self.numbers[word] for clause in [*clauses, end] for word in clause]
