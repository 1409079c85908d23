"""Gauge flip: the honest adapter, written in other factors; averaging factors then ruins it.

Paper: none; our derivation (a LoRA update B A equals (B Q)(Q^T A) for every orthogonal Q, so the
sender's model answers exactly as an honest one while distances, angles and averages change).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from attacks import _checks
from fedalign.core.errors import ConfigError
from fedalign.core.gauge import factors, turned
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class GaugeFlip:
    """Every pair of LoRA factors of every controlled client is turned by the same drawn Q.

    turn: signs, the sign of every rank is flipped; permutation, ranks change places; rotation, a
    random one. Lengths of models stay as they are.
    """

    turn: Literal["signs", "permutation", "rotation"] = "signs"
    knowledge: ClassVar[Knowledge] = Knowledge.OWN

    def __post_init__(self):
        _checks.one_of(self, "turn", self.turn, ("signs", "permutation", "rotation"))

    def __call__(self, view: View) -> Crafted:
        if view.layout is None or not factors(view.layout):
            raise ConfigError(
                "GaugeFlip turns LoRA factors and this payload has none: take peft=lora, or "
                "another attack on updates."
            )

        def turn(a: Tensor, b: Tensor, a0: Tensor, b0: Tensor) -> Tensor:
            return self._drawn(a.shape[1], view).to(a).expand(len(a), -1, -1)

        return Crafted(turned(view.own, view.model, view.layout, turn))

    def _drawn(self, rank: int, view: View) -> Tensor:  # (r, r)
        if self.turn == "signs":
            return -torch.eye(rank)
        if self.turn == "permutation":
            return torch.eye(rank)[torch.from_numpy(view.rng.permutation(rank))]
        normal = torch.from_numpy(view.rng.standard_normal((rank, rank)))
        q, r = torch.linalg.qr(normal)
        return q * r.diagonal().sign()
