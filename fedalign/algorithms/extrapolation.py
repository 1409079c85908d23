"""ExPO: FedAvg whose last model is pushed on along the way it came.

Paper: Zheng et al., "Weak-to-Strong Extrapolation Expedites Alignment", 2024, Eq. 1; as the last
step of a reward model's recipe in Wang et al., "HelpSteer2-Preference", 2024, Section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedalign.algorithms.fedavg import FedAvg
from fedalign.core.contracts import Aggregate, Memory, Workload
from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class Extrapolation(FedAvg):
    """theta_0 + factor (theta_1 - theta_0). start: >= 0, the round after which the model is
    theta_0, 0 the initial one. end: > start, the round whose model theta_1 is replaced. factor:
    >= 1; the paper's best lie near 1.5."""

    start: int = 2
    end: int = 6
    factor: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.start < self.end or self.factor < 1:
            raise ConfigError(
                "algorithm.start must be 0 or more and below end, factor 1 or more, got "
                f"{self.start}, {self.end} and {self.factor}."
            )

    def server_step(
        self, workload: Workload, model: Tensor, aggregate: Aggregate, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """FedAvg's; counts the rounds and keeps theta_0 in between."""
        after, _ = super().server_step(workload, model, aggregate, {})
        done = int(memory.get("round", 0)) + 1
        kept = {"round": done}
        if done > self.end:
            return after, kept
        origin = model if done == self.start + 1 else memory.get("origin")
        if done == self.end:
            return origin + self.factor * (after - origin), kept
        return after, kept if origin is None else {**kept, "origin": origin.clone()}
