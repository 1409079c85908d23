"""MTA generator: random instances with the published settings.

Paper: following arXiv 2208.05120 and its public code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.mta.instance import MTAInstance

NOISE = 1e-3  # delta, the noise amplitude of the published settings


@dataclass(frozen=True)
class MTAGenerator:
    """Whole numbers, uniform, both ends included: price 1..10, data 10..20, limit 1..100, capacity
    200..400, frequency, cycles 1..10, bandwidth, power, gain 5..10; tasks are shuffled and split
    evenly over servers.

    tasks: m >= 1, published 50. servers: n >= 1, published 10 and 20. legacy_reward: as the public
    code pays, see MTAInstance.
    """

    tasks: int = 50
    servers: int = 10
    legacy_reward: bool = False

    def __post_init__(self):
        if self.tasks < 1 or self.servers < 1:
            raise ConfigError(
                f"MTA generator: at least one task and one server are needed, got {self.tasks} "
                f"tasks and {self.servers} servers."
            )

    def __call__(self, rng: np.random.Generator) -> MTAInstance:
        def whole(low: int, high: int, count: int) -> np.ndarray:
            return rng.integers(low, high, count, endpoint=True).astype(np.float64)

        m, n = self.tasks, self.servers
        price, data, limit = whole(1, 10, m), whole(10, 20, m), whole(1, 100, m)
        capacity, frequency, cycles = whole(200, 400, n), whole(1, 10, n), whole(1, 10, n)
        bandwidth, power, gain = (whole(5, 10, n) for _ in range(3))
        return MTAInstance(
            price=price,
            data=data,
            limit=limit,
            owner=rng.permutation(np.arange(m) % n),
            capacity=capacity,
            frequency=frequency,
            cycles=cycles,
            power=power,
            rate=bandwidth * np.log1p(power * gain / NOISE**2),  # the code's natural logarithm
            legacy_reward=self.legacy_reward,
        )
