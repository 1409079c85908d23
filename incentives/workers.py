"""Workers: what clients can do and what effort costs them, private to each, and what effort does.

Paper: following arXiv 2202.10938: effort x is power in
GHz, a round of C gigacycles takes C / x seconds; steps in proportion to x are our derivation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedalign.core.contracts import Work
from fedalign.core.market import Market
from fedalign.core.seeds import Seeds
from incentives import _checks


@dataclass(frozen=True)
class Types:
    """cost, quality, capacity: (n,) float64, see `Workers`."""

    cost: np.ndarray
    quality: np.ndarray
    capacity: np.ndarray


@dataclass(frozen=True)
class Workers:
    """Each client draws its own once and keeps it, uniform in [least, most].

    cost: above 0, base units per GHz^2 (of a contest: per GHz). quality: >= 0, what a GHz is worth
    to the buyer. capacity: above 0, GHz. steps_per_ghz: above 0, local steps that a GHz does.
    gigacycles_per_sample: >= 0, C is this many times the client's samples.
    """

    cost: Sequence[float] = (10_000.0, 30_000.0)
    quality: Sequence[float] = (0.5, 1.0)
    capacity: Sequence[float] = (1.0, 3.0)
    steps_per_ghz: float = 4.0
    gigacycles_per_sample: float = 0.05

    def __post_init__(self):
        _checks.interval(self, "cost", 0, open=True)
        _checks.interval(self, "quality", 0)
        _checks.interval(self, "capacity", 0, open=True)
        _checks.between(self, "steps_per_ghz", 1e-9)
        _checks.between(self, "gigacycles_per_sample", 0)

    def types(self, market: Market) -> Types:
        """The types of the clients of a round."""
        clients = market.clients.tolist()
        return Types(*(
            np.array([drawn(market.seeds, trait, c).uniform(*getattr(self, trait)) for c in clients])
            for trait in ("cost", "quality", "capacity")
        ))  # fmt: skip

    def work(self, effort: np.ndarray) -> list[Work | None]:
        """effort (n,) in GHz -> local steps, to the nearest; who would not even do half a step
        stays away."""
        steps = np.floor(effort * self.steps_per_ghz + 0.5).astype(int).tolist()
        return [Work(steps=count) if count > 0 else None for count in steps]

    def seconds(self, effort: np.ndarray, samples: Tensor) -> Tensor:
        """(n,) simulated seconds C / x; 0 for who stays away."""
        cycles = self.gigacycles_per_sample * samples.double()
        power = torch.from_numpy(effort)
        return torch.where(power > 0, cycles / power.clamp(min=1e-300), 0.0)


def drawn(seeds: Seeds, trait: str, client: int) -> np.random.Generator:
    """What a client draws a private trait from: no round in the address, so it keeps it."""
    return seeds.at("client_type", trait=trait, client=client)
