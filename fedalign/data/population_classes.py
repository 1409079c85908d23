"""Classes of a population: each client's samples are made when it trains, from its own columns.

Nothing is kept per client beyond its row in the population, so 10^6 clients cost no more data than
one block of them. Class c is a mixture of `modes` spherical Gaussians with centres of length
`separation`; a client's share of class c is its topic c, a share `label_noise` of its labels is
wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from fedalign.core.contracts import Dataset
from fedalign.core.errors import ConfigError, DataError
from fedalign.core.seeds import Seeds
from fedalign.data.population import ATTRIBUTES, CORRELATIONS, Population, draw, load

COLUMNS = ("n_samples", "topics", "label_noise", "p_online")


@dataclass(frozen=True)
class PopulationClasses:
    """path: a file of `fedalign population`; None draws the population from the run's seed.
    features: width of an input. modes: Gaussians per class. separation: length of their centres,
    in standard deviations of the noise. test, root_samples: how many rows the test and the
    server's split have, all classes alike. offline: whether a client misses a round with
    probability 1 - p_online. attributes, correlations: of the population that is drawn, None takes
    the built-in ones."""

    path: str | None = None
    features: int = 32
    modes: int = 2
    separation: float = 4.0
    test: int = 2000
    root_samples: int = 100
    offline: bool = True
    attributes: Sequence[Mapping[str, Any]] | None = None
    correlations: Sequence[Sequence[Any]] | None = None

    def __post_init__(self) -> None:
        for name in ("features", "modes", "separation", "test", "root_samples"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"data.{name} must be above 0, got {getattr(self, name)}.")

    def load(self, clients: int, seed: int) -> PopulationData:
        """The data of the first `clients` rows of the population."""
        if self.path is None:
            attributes = ATTRIBUTES if self.attributes is None else self.attributes
            asked = [node for node in attributes if node.get("name") in COLUMNS]
            ties = CORRELATIONS if self.correlations is None else self.correlations
            names = {node["name"] for node in asked}
            bound = any(names & {*pair[:2]} for pair in ties)
            kept = attributes if bound or any(node.get("by") for node in asked) else asked
            found = draw(clients, seed, kept, ties if kept is attributes else ())
            source = f"population(seed={seed})"
        else:
            found = load(self.path, COLUMNS)
            source = f"{self.path} sha256 {found.digest()[:12]}"
        absent = [name for name in COLUMNS if name not in found.columns]
        if absent or len(found) < clients:
            raise DataError(
                f"data=population needs {clients} clients with {', '.join(COLUMNS)}; {source} has "
                f"{len(found)}" + (f" and lacks {', '.join(absent)}." if absent else ".")
            )
        return PopulationData(self, found, clients, Seeds(seed), source)


@dataclass(frozen=True)
class PopulationData:
    """Clients' samples on demand. clients: n."""

    recipe: PopulationClasses
    population: Population
    clients: int
    seeds: Seeds
    source: str

    @property
    def classes(self) -> int:
        """As many as there are topics."""
        return self.population.columns["topics"].shape[1]

    def samples(self, client: int) -> int:
        """How many samples a client has."""
        return int(self.population.columns["n_samples"][client])

    def online(self, client: int) -> float:
        """Probability that a client can be reached in a round."""
        return float(self.population.columns["p_online"][client]) if self.recipe.offline else 1.0

    def client(self, client: int) -> Dataset:
        """All samples of one client; the same whenever it is asked."""
        columns, rng = self.population.columns, self.seeds.at("client_data", client=client)
        shares = columns["topics"][client].astype(np.float64)
        return self._drawn(self.samples(client), shares, float(columns["label_noise"][client]), rng)

    def held_out(self, split: str) -> Dataset:
        """split: test or server."""
        count = self.recipe.test if split == "test" else self.recipe.root_samples
        even = np.full(self.classes, 1.0)
        return self._drawn(count, even, 0.0, self.seeds.at("population_split", split=split))

    @cached_property
    def _centres(self) -> np.ndarray:  # (classes, modes, features)
        shape = (self.classes, self.recipe.modes, self.recipe.features)
        drawn = self.seeds.at("class_centres").standard_normal(shape, dtype=np.float32)
        lengths = np.linalg.norm(drawn, axis=2, keepdims=True)
        return drawn / lengths * np.float32(self.recipe.separation)

    def _drawn(
        self, count: int, shares: np.ndarray, noise: float, rng: np.random.Generator
    ) -> Dataset:
        edges = np.cumsum(shares)
        uniform = rng.random((4, count))
        labels = np.searchsorted(edges[:-1], uniform[0] * edges[-1], side="right")
        modes = (uniform[1] * self.recipe.modes).astype(np.int64)
        inputs = rng.standard_normal((count, self.recipe.features), dtype=np.float32)
        inputs += self._centres[labels, modes]
        others = 1 + (uniform[3] * (self.classes - 1)).astype(np.int64)
        labels = np.where(uniform[2] < noise, (labels + others) % self.classes, labels)
        return Dataset(torch.from_numpy(inputs), torch.from_numpy(labels), self.classes)
