"""Annotators: who prefers which of two answers, with values, noise and biases of their own.

Papers: Bradley and Terry, "Rank Analysis of Incomplete Block Designs", Biometrika 1952; Wang et
al., "HelpSteer2-Preference: Complementing Ratings with Preferences", 2024 (strength in 1 .. 3); Fan
et al., "FedRLHF", AAMAS 2025 (values partly shared, partly one's own).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from fedalign.core.errors import ConfigError, UnknownNameError
from fedalign.core.preferences import Preferences, Sequences
from fedalign.data.graded_facts import CLUSTERS, WEIGHTS, World
from fedalign.data.grader import attributes_of, reward


@dataclass(frozen=True)
class Annotator:
    """P(first preferred) = (1 - 2 error) sigmoid((R1 - R2) / temperature) + error.

    temperature: > 0. error: share of labels turned round, 0 <= error <= 0.5. temperatures, errors:
    if given, those of single clients, dealt to them in turn as the clusters are. heterogeneity: h
    in [0, 1]; client c values answers by (1 - h) w + h w_cluster + N(0, weight_noise); climbed by an
    online objective, that is FedRLHF's shared reward with a term of each client's own, h its lambda.
    length_bias per four body tokens and filler_bias per filler are added to R.
    """

    temperature: float = 0.5
    error: float = 0.0
    temperatures: Sequence[float] = ()
    errors: Sequence[float] = ()
    heterogeneity: float = 0.0
    weight_noise: float = 0.0
    clusters: Sequence[str] = ("terse_expert", "chatty_layman")
    length_bias: float = 0.0
    filler_bias: float = 0.0

    def __post_init__(self) -> None:
        for name, fine, range_ in (
            ("temperature", self.temperature > 0, "above 0"),
            ("error", 0 <= self.error <= 0.5, "in [0, 0.5]"),
            ("temperatures", all(t > 0 for t in self.temperatures), "a list of numbers above 0"),
            ("errors", all(0 <= e <= 0.5 for e in self.errors), "a list of shares in [0, 0.5]"),
            ("heterogeneity", 0 <= self.heterogeneity <= 1, "in [0, 1]"),
            ("weight_noise", self.weight_noise >= 0, "0 or more"),
            ("clusters", len(self.clusters) > 0, "a list of at least one name"),
        ):
            if not fine:
                raise ConfigError(
                    f"data.annotator.{name} must be {range_}, got {getattr(self, name)}."
                )
        for name in self.clusters:
            if name not in CLUSTERS:
                raise UnknownNameError("cluster of annotators", name, CLUSTERS)

    def of(self, client: int) -> Annotator:
        """Client c's own: with its temperature and its share of errors."""
        temperatures, errors = self.temperatures, self.errors
        return replace(
            self, temperatures=(), errors=(),
            temperature=temperatures[client % len(temperatures)] if temperatures else self.temperature,
            error=errors[client % len(errors)] if errors else self.error,
        )  # fmt: skip

    def cluster(self, client: int) -> str:
        """Whose values client c leans to."""
        return self.clusters[client % len(self.clusters)]

    def weights(self, client: int, rng: np.random.Generator) -> np.ndarray:
        """(5,), what client c thinks each attribute is worth."""
        noise = self.weight_noise * rng.standard_normal(len(WEIGHTS))
        return self._leaning(self.cluster(client)) + noise

    def groups(self) -> np.ndarray:
        """(G, 5), what each of the G different clusters thinks, without anybody's own noise."""
        return np.stack([self._leaning(name) for name in dict.fromkeys(self.clusters)])

    def _leaning(self, cluster: str) -> np.ndarray:
        own, h = np.array(CLUSTERS[cluster]), self.heterogeneity
        return (1 - h) * np.array(WEIGHTS) + h * own

    def probability(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(N,), that the first of two answers worth R1 and R2 is preferred."""
        chance = 1 / (1 + np.exp(-np.clip((first - second) / self.temperature, -500, 500)))
        return (1 - 2 * self.error) * chance + self.error

    def worth(
        self, world: World, answers: Sequence[Sequence[int]], attributes: np.ndarray, weights
    ) -> np.ndarray:
        """(N,), R of answers with these attributes (N, 5), biases included."""
        found = reward(attributes, weights)
        if self.length_bias or self.filler_bias:
            low, high = world.numbers["f0"], world.numbers["e0"]
            tokens = np.array([len(a) - (a[-1:] == [2]) for a in map(list, answers)])
            fillers = np.array([sum(low <= t < high for t in answer) for answer in answers])
            found = found + self.length_bias * tokens / 4 + self.filler_bias * fillers
        return found


@dataclass(frozen=True)
class Pool:
    """Pairs of answers nobody has judged yet. attributes: two times (N, 5)."""

    prompts: Sequence[Sequence[int]]
    first: Sequence[Sequence[int]]
    second: Sequence[Sequence[int]]
    attributes: tuple[np.ndarray, np.ndarray]
    topics: np.ndarray

    @staticmethod
    def of(world: World, prompts, first, second) -> Pool:
        """Grade both answers; pairs of equal answers are dropped. topics: the entity asked for."""
        rows = [
            (p, a, b)
            for p, a, b in zip(prompts, first, second, strict=True)
            if list(a) != list(b) and len(a) and len(b)
        ]
        prompts, first, second = zip(*rows, strict=True) if rows else ((), (), ())
        graded = (attributes_of(world, prompts, first), attributes_of(world, prompts, second))
        topics = np.array([p[2] - world.numbers["e0"] for p in prompts], dtype=np.int64)
        return Pool(prompts, first, second, graded, topics)

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: Sequence[int]) -> Pool:
        """The pairs of these indices, in this order."""
        pick = [[part[i] for i in rows] for part in (self.prompts, self.first, self.second)]
        graded = tuple(part[list(rows)] for part in self.attributes)
        return Pool(*pick, graded, self.topics[list(rows)])


def annotate(
    world: World, pool: Pool, annotator: Annotator, weights: Sequence[float], rng
) -> Preferences:
    """One annotator's labels for a pool. Strength 1, 2, 3 by |R1 - R2| <= .5, <= 1.5, above."""
    first = annotator.worth(world, pool.first, pool.attributes[0], weights)
    second = annotator.worth(world, pool.second, pool.attributes[1], weights)
    clean = Annotator(annotator.temperature).probability(first, second)
    order = rng.random(len(pool)) < clean  # the first is better
    turned = rng.random(len(pool)) < annotator.error
    swap = torch.from_numpy(order == turned)
    gap = np.abs(first - second)
    strength = 1 + (gap > 0.5) + (gap > 1.5)
    pairs = Preferences(
        chosen=Sequences.of(pool.prompts, pool.first),
        rejected=Sequences.of(pool.prompts, pool.second),
        scores=torch.from_numpy(np.stack([first, second], axis=1)).float(),
        strength=torch.from_numpy(strength.astype(np.int64)),
        topics=torch.from_numpy(pool.topics),
        flipped=torch.zeros(len(pool), dtype=torch.bool),
        words=world.words,
    ).swap(swap)
    return Preferences(**{**vars(pairs), "flipped": torch.from_numpy(turned)})


def bayes_ceiling(
    world: World, pool: Pool, annotator: Annotator, weights: Sequence[float] = WEIGHTS
) -> float:
    """E max(P, 1 - P): the best accuracy any model can have on these noisy labels."""
    first = annotator.worth(world, pool.first, pool.attributes[0], weights)
    second = annotator.worth(world, pool.second, pool.attributes[1], weights)
    p = annotator.probability(first, second)
    return float(np.maximum(p, 1 - p).mean())
