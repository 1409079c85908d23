"""Allocation problem: energy of all servers plus omega times the round time they share.

Paper: following arXiv 2206.02243.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.allocation.edge_server import EdgeServer, Strategy
from incentives.allocation.round_cost import RoundCost

MARGIN = 1e-13  # the slope is minus infinity at the very fastest round, so stay this far above


@dataclass(frozen=True)
class AllocationProblem:
    """min sum_i kappa (C1 f1^2 + C2 f2^2 + sum_j C_j f_j^2) + omega T, T <= deadline_s.

    servers: N >= 1. omega: joules per second of round time, > 0. deadline_s: tau > 0, may be
    infinite. strategy: equal (one frequency for all mobile-edge tasks of a server, the paper's
    Algorithm 1) or on_demand (each its own, Algorithm 2). kappa: J / (GHz^2 gigacycle), > 0.
    ConfigError names the server that cannot meet its deadlines, and by how much.
    """

    servers: Sequence[EdgeServer]
    omega: float
    deadline_s: float = np.inf
    strategy: Strategy = "on_demand"
    kappa: float = 0.1

    def __post_init__(self):
        if not self.servers:
            raise ConfigError("An allocation needs at least one server, got none.")
        if self.strategy not in ("equal", "on_demand"):
            raise ConfigError(f"strategy is equal or on_demand, got '{self.strategy}'.")
        for name in ("omega", "kappa"):
            if not 0 < getattr(self, name) < np.inf:
                raise ConfigError(
                    f"An allocation's {name} must be above 0 and finite, got {getattr(self, name)}."
                )
        if not self.deadline_s > 0:
            raise ConfigError(f"deadline_s must be above 0, got {self.deadline_s}.")
        for i, (server, mec) in enumerate(zip(self.servers, self.mec, strict=True)):
            if server.capacity - mec.sum() <= 0:
                raise ConfigError(
                    f"Server {i} needs {mec.sum():.6g} GHz for the deadlines of its mobile-edge "
                    f"tasks ({self.strategy}) and has {server.capacity:.6g}, "
                    f"{mec.sum() - server.capacity:.6g} short with nothing left for the round: "
                    "raise its capacity or relax its deadlines_s."
                )
        fastest = self.cost.fastest
        late = int(fastest.argmax())
        if fastest[late] > self.deadline_s:
            raise ConfigError(
                f"Server {late} cannot finish a round in less than {fastest[late]:.6g} s, "
                f"{fastest[late] - self.deadline_s:.6g} s after the deadline of "
                f"{self.deadline_s:.6g} s: raise its capacity or deadline_s."
            )

    @cached_property
    def mec(self) -> tuple[np.ndarray, ...]:
        """Mobile-edge frequencies of each server, at their optimum whatever T is."""
        return tuple(server.mec_frequencies(self.strategy) for server in self.servers)

    @cached_property
    def mec_energy(self) -> float:  # joules
        pairs = zip(self.servers, self.mec, strict=True)
        return float(sum(self.kappa * np.asarray(s.mec, float) @ f**2 for s, f in pairs))

    @cached_property
    def cost(self) -> RoundCost:
        """What is left of each server for the round."""

        def read(name: str) -> np.ndarray:
            return np.array([getattr(server, name) for server in self.servers], dtype=np.float64)

        left = read("capacity") - np.array([f.sum() for f in self.mec])
        return RoundCost(
            read("training"), read("consensus"), read("communication_s"), left, self.kappa
        )

    @cached_property
    def shortest(self) -> float:
        """The shortest round all servers can keep, seconds."""
        return float(self.cost.fastest.max()) * (1 + MARGIN)

    def objective(self, round_s: float) -> float:
        """Of the best allocation with this round time, joules."""
        energy = self.cost.energy(np.full(len(self.servers), round_s))
        return float(energy.sum() + self.mec_energy + self.omega * round_s)

    def slope(self, round_s: float) -> float:
        """Of `objective`, increasing: 0 at an inner optimum."""
        return float(self.cost.slope(np.full(len(self.servers), round_s)).sum() + self.omega)
