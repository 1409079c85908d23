"""Tied-LoRA: one pair of low-rank factors for all layers, scaled per layer.

Paper: Renduchintala et al., "Tied-LoRA: Enhancing parameter efficiency of LoRA with Weight Tying",
NAACL 2024, Eq. 2 and Table 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn

from fedalign.core.errors import ConfigError
from fedalign.core.seeds import generator
from fedalign.models.host import Host, Switch, replace_module
from fedalign.models.low_rank import targets_of

_ZEROED = "BvuA"  # the first trained one of these starts at 0


@dataclass(frozen=True)
class TiedLora:
    """y = W x + diag(v) B diag(u) A x. A (r, d_in) and B (d_out, r) are shared by all layers of
    equal shape where `tied`; u (r,) and v (d_out,) belong to a layer.

    train: which of A, B, u, v are trained, e.g. "ABuv" (full), "uv" (VeRA), "AB" untied (LoRA);
    the others stay as drawn from `seed`. rank: r >= 1. targets: as of LowRank.
    """

    train: str = "ABuv"
    tied: bool = True
    rank: int = 8
    targets: Sequence[str] = ("linear",)
    seed: int = 0

    neutral = True
    lr_scale = 1.0

    def __post_init__(self) -> None:
        if (
            not self.train
            or set(self.train) - set("ABuv")
            or len(set(self.train)) < len(self.train)
        ):
            raise ConfigError(
                f"peft.train must name some of A, B, u, v once each, got {self.train!r}."
            )
        if self.rank < 1:
            raise ConfigError(f"peft.rank must be 1 or more, got {self.rank}.")

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with tied factors on its targets: only they require gradients."""
        model.requires_grad_(False)
        names = set(targets_of(model, self.targets))
        found = [
            (name, module)
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and name.rpartition(".")[2] in names
        ]
        shared: dict[object, Mapping[str, nn.Parameter]] = {}
        adapters = []
        for place, (name, module) in enumerate(found):
            key = (module.out_features, module.in_features) if self.tied else place
            if key not in shared:
                shared[key] = self._factors(module, len(shared))
            adapters.append(_TiedLinear(module, shared[key], self._scales(module)))
            replace_module(model, name, adapters[-1])
        return Host(model, adapters)

    def _factors(self, module: nn.Linear, number: int) -> dict[str, nn.Parameter]:
        """A and B, Kaiming uniform, from the seed and their place alone."""
        rng = generator(f"tied_lora {self.seed} {number}".encode().ljust(16, b"."))
        like, made = module.weight, {}
        for name, shape, fan in (
            ("A", (self.rank, module.in_features), module.in_features),
            ("B", (module.out_features, self.rank), self.rank),
        ):
            values = torch.zeros(shape, device=like.device, dtype=like.dtype)
            if name != self._zero and like.device.type != "meta":
                bound = sqrt(3 / fan) * sqrt(2 / 6)  # Kaiming's, with a = sqrt(5)
                drawn = torch.from_numpy(rng.uniform(-bound, bound, shape))
                values = drawn.to(values)
            made[name] = nn.Parameter(values, requires_grad=name in self.train)
        return made

    def _scales(self, module: nn.Linear) -> dict[str, nn.Parameter]:
        like = module.weight
        sizes = {"u": self.rank, "v": module.out_features}
        return {
            name: nn.Parameter(
                torch.full((size,), float(name != self._zero)).to(like),
                requires_grad=name in self.train,
            )
            for name, size in sizes.items()
        }

    @property
    def _zero(self) -> str:
        return next(name for name in _ZEROED if name in self.train)


class _TiedLinear(Switch):
    def __init__(self, base: nn.Linear, factors: Mapping[str, nn.Parameter], scales: Mapping):
        super().__init__()
        self.base = base
        self.A, self.B = factors["A"], factors["B"]
        self.u, self.v = scales["u"], scales["v"]

    def forward(self, x: Tensor) -> Tensor:  # (..., d_in) -> (..., d_out)
        y = self.base(x)
        if not self.enabled:
            return y
        return y + self.v * ((self.u * (x @ self.A.T)) @ self.B.T)

    def update(self) -> Tensor:
        """(d_out, d_in), what the adapter adds to the weight."""
        return (self.v[:, None] * self.B) @ (self.u[:, None] * self.A)
