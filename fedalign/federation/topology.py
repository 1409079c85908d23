"""Topology: which edge server a device belongs to, and how often edges average before they meet.

Paper: Liu et al., "Client-Edge-Cloud Hierarchical Federated Learning", ICC 2020 (K edge rounds per
global round); without a cloud: Wang et al., arXiv 2308.01296.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from fedalign.core.errors import ConfigError

Partition = Callable[[np.ndarray, int, np.random.Generator], list[np.ndarray]]
Placement = Literal["as_dealt", "iid_within", "iid_across"]
EdgeWeighting = Literal["samples", "devices", "uniform"]


@dataclass(frozen=True)
class Topology:
    """E edges with their devices, contiguous ids; one edge and one edge round are a flat federation.

    edges: E >= 1. edge_rounds: K >= 1, per global round. devices: how many each edge has (one
    number of 1 or more per edge), None for as equal as possible. placement of the data:
    "as_dealt", the study's partition over all devices; "iid_within", that partition over the
    edges and each edge's share evenly over its devices; "iid_across", even shares over the edges
    and the partition inside each. edge_weighting: what an edge model weighs, its "samples", its
    number of "devices", or "uniform".
    """

    edges: int = 1
    edge_rounds: int = 1
    devices: Sequence[int] | None = None
    placement: Placement = "as_dealt"
    edge_weighting: EdgeWeighting = "samples"

    def __post_init__(self) -> None:
        for name, value in (("edges", self.edges), ("edge_rounds", self.edge_rounds)):
            if not isinstance(value, int) or value < 1:
                raise ConfigError(
                    f"topology.{name} must be a whole number of 1 or more, got {value!r}: "
                    + ("a global round without an edge round trains nobody."
                       if name == "edge_rounds" else "a flat federation has one edge.")
                )  # fmt: skip
        for name, options in (("placement", Placement), ("edge_weighting", EdgeWeighting)):
            if getattr(self, name) not in get_args(options):
                raise ConfigError(
                    f"topology.{name} is one of {', '.join(get_args(options))}; "
                    f"got {getattr(self, name)!r}."
                )
        if self.devices is not None and len(self.devices) != self.edges:
            raise ConfigError(
                f"topology.devices lists {len(self.devices)} numbers for {self.edges} edges: "
                "give one per edge, or null for equal shares."
            )

    @property
    def flat(self) -> bool:
        """Whether there is nothing above the edge."""
        return self.edges == 1 and self.edge_rounds == 1

    def members(self, clients: int) -> list[list[int]]:
        """Ids of every edge's devices, ascending."""
        if self.devices is None:
            counts = [len(part) for part in np.array_split(np.arange(clients), self.edges)]
        else:
            counts = list(self.devices)
            if sum(counts) != clients:
                raise ConfigError(
                    f"topology.devices={counts} are {sum(counts)} devices, but clients={clients}: "
                    "the numbers must add up to clients."
                )
        if min(counts) < 1:
            raise ConfigError(
                f"Edge {counts.index(min(counts))} has no devices ({clients} clients on "
                f"{self.edges} edges): lower topology.edges or raise clients."
            )
        borders = np.cumsum([0, *counts]).tolist()
        return [list(range(a, b)) for a, b in pairwise(borders)]

    def global_round(self, edge_round: int) -> int:
        """t of the running edge round r = (t - 1) K + k."""
        return (edge_round - 1) // self.edge_rounds + 1

    def place(self, partition: Partition) -> Partition:
        """The partition of the pool over all devices that `placement` makes of `partition`."""
        if self.edges == 1 or self.placement == "as_dealt":
            return partition
        return _Nested(self, partition)


@dataclass(frozen=True)
class _Nested:
    """A partition in two steps: over the edges, then inside each."""

    topology: Topology
    partition: Partition

    def __call__(
        self, labels: np.ndarray, clients: int, rng: np.random.Generator
    ) -> list[np.ndarray]:
        sizes = [len(members) for members in self.topology.members(clients)]
        if self.topology.placement == "iid_within":
            parts = self.partition(labels, len(sizes), rng)
            dealt = [_even(part, [1] * size, rng) for part, size in zip(parts, sizes, strict=True)]
        else:
            parts = _even(np.arange(len(labels)), sizes, rng)
            dealt = [
                [part[rows] for rows in self.partition(labels[part], size, rng)]
                for part, size in zip(parts, sizes, strict=True)
            ]
        found = [np.sort(rows) for edge in dealt for rows in edge]
        if min(map(len, found)) < 1:
            raise ConfigError(
                f"Some of {clients} devices got no data: lower clients or soften the partition."
            )
        return found


def _even(rows: np.ndarray, shares: Sequence[int], rng: np.random.Generator) -> list[np.ndarray]:
    """Shuffled rows cut in proportion to `shares`."""
    borders = np.round(np.cumsum(shares)[:-1] * len(rows) / sum(shares)).astype(int)
    return [np.sort(part) for part in np.split(rng.permutation(rows), borders)]
