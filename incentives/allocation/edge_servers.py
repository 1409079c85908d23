"""Allocation generator: random servers that can keep their deadlines under either strategy.

Paper: none; our choice (arXiv 2206.02243's parameter table was not available to us).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.allocation.edge_server import EdgeServer


@dataclass(frozen=True)
class EdgeServers:
    """Uniform: training 2..8 and consensus 0.5..3 gigacycles, communication 0.1..0.5 s, tasks
    0.5..2 gigacycles due in 0.5..2 s; capacity is 3..8 GHz above what equal frequencies need.

    servers: N >= 1. tasks: mobile-edge tasks of a server, >= 0.
    """

    servers: int = 5
    tasks: int = 3

    def __post_init__(self):
        if self.servers < 1 or self.tasks < 0:
            raise ConfigError(
                "EdgeServers needs one server or more and no negative number of tasks, got "
                f"{self.servers} and {self.tasks}."
            )

    def __call__(self, rng: np.random.Generator) -> Sequence[EdgeServer]:
        return tuple(self._server(rng) for _ in range(self.servers))

    def _server(self, rng: np.random.Generator) -> EdgeServer:
        mec, deadlines = rng.uniform(0.5, 2.0, self.tasks), rng.uniform(0.5, 2.0, self.tasks)
        needed = self.tasks * float((mec / deadlines).max(initial=0.0))
        return EdgeServer(
            training=float(rng.uniform(2, 8)),
            consensus=float(rng.uniform(0.5, 3)),
            communication_s=float(rng.uniform(0.1, 0.5)),
            capacity=needed + float(rng.uniform(3, 8)),
            mec=tuple(mec.tolist()),
            deadlines_s=tuple(deadlines.tolist()),
        )
