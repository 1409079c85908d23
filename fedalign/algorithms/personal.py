"""Personal parts: what is called local is trained by its client and never sent.

Papers: Arivazhagan et al., "Federated Learning with Personalization Layers", 2019 (a head of one's
own); Li et al., "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021 (a
model of one's own beside the shared one; here their adapters are summed).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedalign.algorithms.fedavg import FedAvg
from fedalign.core.errors import ConfigError
from fedalign.core.personal import LOCAL


@dataclass(frozen=True)
class PersonalPart(FedAvg):
    """part: what each client has of its own beside the shared adapter: head, an untied copy of the
    language model's output layer; adapter, a second LoRA that is added to the shared one."""

    part: Literal["head", "adapter"] = "head"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.part not in ("head", "adapter"):
            raise ConfigError(f"algorithm.part must be head or adapter, got {self.part!r}.")

    def shared(self, name: str) -> bool:
        """Everything but the local part."""
        return LOCAL not in name
