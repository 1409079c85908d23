"""beta-DPO: a beta for every batch, larger where the pairs are informative, outliers left out.

Paper: Wu et al., "beta-DPO: Direct Preference Optimization with Dynamic beta", NeurIPS 2024,
Eqs. 7-9.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from fedalign.core.errors import ConfigError
from fedalign.objectives.terms import Loss, Memory, PairTerms, implicit, positive, within

_LEAST = 1e-6  # of the running deviation: with a fresh adapter every gap is 0


@dataclass(frozen=True)
class BetaDpo:
    """beta = max(beta_0 (1 + strength (mean kept gap - M)), 1e-3), M a running mean of gaps.

    beta: beta_0 > 0. strength: a >= 0. keep: share of the batch that stays, in (0, 1]. decay: of
    the running mean and deviation, in [0, 1). select: sample, without replacement and likelier near
    M, or topk, the likeliest. initial: what M and S start from, first_batch or zeros (as released).
    Memory: mean, deviation, seed; they belong to one client and are never averaged.
    """

    beta: float = 0.1
    strength: float = 0.6
    keep: float = 0.8
    decay: float = 0.9
    select: Literal["sample", "topk"] = "sample"
    initial: Literal["first_batch", "zeros"] = "first_batch"
    reference: ClassVar[str] = "sft"
    mismatched: ClassVar[bool] = False
    neutral: ClassVar[float | None] = log(2)

    def __post_init__(self) -> None:
        positive(self, beta=self.beta, keep=self.keep)
        within(self, 0.0, 1.0, True, keep=self.keep)
        within(self, 0.0, 1.0, decay=self.decay)
        if self.strength < 0:
            raise ConfigError(f"BetaDpo.strength must be 0 or more, got {self.strength}.")
        for name, options in (
            ("select", ("sample", "topk")),
            ("initial", ("first_batch", "zeros")),
        ):
            if getattr(self, name) not in options:
                raise ConfigError(
                    f"BetaDpo.{name} must be {' or '.join(options)}, got {getattr(self, name)!r}."
                )

    def __call__(self, terms: PairTerms, memory: Memory = {}) -> Loss:  # noqa: B006
        gap = terms.gap.detach()
        center, spread = self._running(gap, memory)
        weights = (-0.5 * ((gap - center) / max(spread, _LEAST)).square()).exp()
        kept, seed = self._kept(weights, int(memory.get("seed", 0)))
        beta = self.beta * (1 + self.strength * (float(gap[kept].mean()) - center))
        beta = max(beta, 1e-3)
        items = -logsigmoid(beta * terms.gap)
        metrics = {**implicit(terms, self.beta), "beta": beta}
        after = {"mean": center, "deviation": spread, "seed": seed}
        return Loss(items[kept].mean(), items, metrics, after)

    def _running(self, gap: Tensor, memory: Memory) -> tuple[float, float]:
        """M and S after this batch; a single pair has deviation 0."""
        now = float(gap.mean()), float(gap.std()) if len(gap) > 1 else 0.0
        if "mean" not in memory and self.initial == "first_batch":
            return now
        before = memory.get("mean", 0.0), memory.get("deviation", 0.0)
        m = self.decay
        return m * before[0] + (1 - m) * now[0], m * before[1] + (1 - m) * now[1]

    def _kept(self, weights: Tensor, seed: int) -> tuple[Tensor, int]:
        """Indices of the pairs that stay, in order, and the next seed."""
        count = max(1, floor(self.keep * len(weights) + 1e-9))
        if self.select == "topk":
            return weights.topk(count).indices.sort().values, seed
        rng = torch.Generator().manual_seed(seed)
        # Gumbel's trick draws without replacement with p ~ w, zero weights included
        noise = -torch.log(-torch.log(torch.rand(len(weights), generator=rng, dtype=torch.float64)))
        chance = weights.double().cpu().clamp(min=1e-300).log() + noise
        return chance.topk(count).indices.sort().values.to(weights.device), seed + 1
