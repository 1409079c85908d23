"""Faker around a backdoor: the groups that carry it stay, all others are rescaled.

Paper: Wang et al., "Can We Trust the Similarity Measurement in Federated Learning?",
arXiv 2311.03369 (extension to backdoors); choice of groups and budgets: our derivation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from attacks import _checks
from attacks._rows import norm
from attacks._trigger import Trigger
from attacks.faker._groups import Groups
from attacks.faker._plane import best_point_beside_frozen, place
from attacks.faker._sums import Sums
from fedalign.core.threat import Crafted, Knowledge, View

SLACK = 1e-6


@dataclass(frozen=True)
class FakerBackdoor(Trigger):
    """Start from the row w_b trained on stamped data (arguments of the stamp: see Trigger), keep
    alpha = 1 on the groups with the most |w_b - w_own|^2 and run Faker's solver 2D on the rest.

    coverage: share of that energy that must be kept, in [0, 1]. groups: T >= 1, permuted; null is
    min(64, d). tau: cosine floor towards w_b. norm_bound: M > 0, null the honest row's norm.
    norm_floor: least share of M. a_max: no |alpha| above it (> 1), null for none. margin: share
    taken off M. Where nothing fits, w_b itself is sent.
    """

    coverage: float = 0.5
    groups: int | None = None
    tau: float = 0.5
    norm_bound: float | None = None
    norm_floor: float = 0.9
    a_max: float | None = 10.0
    margin: float = 1e-6
    knowledge: ClassVar[Knowledge] = Knowledge.OWN

    def __post_init__(self):
        super().__post_init__()
        _checks.in_range(self, "coverage", self.coverage, 0, 1)
        _checks.in_range(self, "tau", self.tau, -1, 1)
        _checks.in_range(self, "norm_floor", self.norm_floor, 0, 1)
        _checks.in_range(self, "margin", self.margin, 0, 0.1)
        for name, low in (("groups", 1), ("norm_bound", 0), ("a_max", 1)):
            if getattr(self, name) is not None:
                strict = name != "groups"
                _checks.in_range(self, name, getattr(self, name), low, open_low=strict)

    def __call__(self, view: View) -> Crafted:
        backdoored = view.in_space(_checks.poisoned(self, view))
        honest = view.in_space(view.own)
        columns = honest.shape[1]
        count = min(64, columns) if self.groups is None else self.groups
        groups = Groups.permuted(columns, count, view.rng)
        rows = [self._row(groups, b, w) for b, w in zip(backdoored, honest, strict=True)]
        return Crafted(view.as_updates(torch.stack(rows)))

    def _row(self, groups: Groups, backdoored: Tensor, honest: Tensor) -> Tensor:
        change = backdoored - honest
        movable = ~_carriers(groups.sums(change, change), self.coverage)
        sums = Sums.of(groups.sizes(), groups.sums(backdoored, backdoored), movable)
        if len(sums.energies) == 0:
            return backdoored
        bound = norm(honest) if self.norm_bound is None else self.norm_bound
        bound *= 1 - self.margin
        p, v = best_point_beside_frozen(
            sums, bound=bound, radius=None, tau=self.tau, floor=self.norm_floor * bound
        )
        alpha = place(sums, p, v, self.a_max)
        fits = sums.norm(alpha) <= bound * (1 + SLACK) and sums.cosine(alpha) >= self.tau - SLACK
        return groups.scale(sums.complete(alpha), backdoored) if fits else backdoored


def _carriers(energies: np.ndarray, coverage: float) -> np.ndarray:
    """The fewest groups that hold `coverage` of the energy, (T,) bool; largest first."""
    order = np.argsort(-energies, kind="stable")
    before = np.cumsum(energies[order]) - energies[order]
    chosen = np.zeros(len(energies), dtype=bool)
    chosen[order[before < coverage * energies.sum()]] = True
    return chosen
