"""LA with one shared scalar: a random direction, as long as the rule's test allows.

Paper: Wang et al., "Can We Trust the Similarity Measurement in Federated Learning?",
arXiv 2311.03369, Section 6 (benchmark "LA", after Fang et al., USENIX Security 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import ClassVar, Literal

import torch
from torch import Tensor

from attacks import _checks
from attacks._noise import signs
from attacks._rows import dot
from attacks._trial import accepted
from fedalign.core.errors import ConfigError
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class LaShared:
    """w' = w + lambda s in view.space, s uniform in {-1, 1}^d, one lambda for all parameters.

    test: family, the test of the rule's family with the own row as proxy: |w'| <= |w| (norm),
    cos(w', w) >= tau (cosine), else |w' - w| <= |w_g - w|; or rule, which asks the rule itself
    with the own rows standing in for the benign ones.
    search: closed, the largest lambda by formula; published, grown until the test fails and then
    `steps` halvings, a pass over the row each (family test only).
    tau: -1 < tau <= 1. steps: >= 1.
    """

    test: Literal["family", "rule"] = "family"
    search: Literal["closed", "published"] = "closed"
    tau: float = 0.5
    steps: int = 20
    knowledge: ClassVar[Knowledge] = Knowledge.RULE

    def __post_init__(self):
        _checks.one_of(self, "test", self.test, ("family", "rule"))
        _checks.one_of(self, "search", self.search, ("closed", "published"))
        _checks.in_range(self, "tau", self.tau, -1, 1, open_low=True)
        _checks.in_range(self, "steps", self.steps, 1)
        if self.test == "rule" and self.search == "published":
            raise ConfigError(
                "LaShared.search='published' grows lambda on the family test, got test='rule': "
                "use search='closed' with it (20 halvings of the rule's own verdict)."
            )

    def __call__(self, view: View) -> Crafted:
        honest = view.in_space(view.own)
        directions = signs(view.rng, honest)
        # Random either way, but only against w does the norm test leave room.
        inner = [dot(w, s) for w, s in zip(honest, directions, strict=True)]
        for i, product in enumerate(inner):
            if product > 0:
                directions[i].neg_()
        if self.test == "rule":
            return self._asked(view, honest, directions)
        sizes = [self._size(view, *each) for each in zip(honest, view.own, directions, strict=True)]
        rows = honest + directions * torch.tensor(sizes).to(honest)[:, None]
        return Crafted(view.as_updates(rows), notes={"lambda": sizes})

    def _size(self, view: View, own: Tensor, update: Tensor, direction: Tensor) -> float:
        if self.search == "published":
            return self._grown(view, own, update, direction)
        d, square, inner = len(own), dot(own, own), dot(own, direction)
        if view.family == "norm":
            return -2 * inner / d
        if view.family != "cosine":
            return sqrt(dot(update, update) / d)
        return _along_cone(square, inner, d, self.tau)

    def _grown(self, view: View, own: Tensor, update: Tensor, direction: Tensor) -> float:
        """Double until the test fails, then bisect: what the benchmark does on every step."""
        length, reach = own.norm(), update.norm()

        def passes(size: float) -> bool:
            row = own + size * direction
            if view.family == "norm":
                return bool(row.norm() <= length)
            if view.family == "cosine":
                return bool(torch.dot(row, own) >= self.tau * row.norm() * length)
            return bool((row - own).norm() <= reach)

        high = float(length) / len(own) ** 0.5 * 2.0**-10
        for _ in range(self.steps):
            if not passes(high):
                break
            high *= 2
        low = 0.0
        for _ in range(self.steps):
            middle = (low + high) / 2
            low, high = (middle, high) if passes(middle) else (low, middle)
        return low

    def _asked(self, view: View, honest: Tensor, directions: Tensor) -> Crafted:
        """Halve from ten times |w| / sqrt(d) until the rule accepts a row; else send w."""
        copies = -(-(view.clients - len(honest)) // len(honest))
        crowd = view.own.repeat(max(copies, 1), 1)[: max(view.clients - len(honest), 1)]
        size = 10 * float(honest.double().norm(dim=1).mean()) / honest.shape[1] ** 0.5
        for _ in range(self.steps):
            rows = view.as_updates(honest + size * directions)
            if accepted(view, crowd, rows):
                return Crafted(rows, notes={"lambda": [size] * len(rows)})
            size /= 2
        return Crafted(view.own, notes={"lambda": [0.0] * len(honest)})


def _along_cone(square: float, inner: float, d: int, tau: float) -> float:
    """Largest lambda with cos(w + lambda s, w) >= tau, for <w, s> <= 0.

    With s = (inner / E) w + s': lambda |s'| <= k (sqrt(E) + lambda inner / sqrt(E)), where
    k = sqrt(1 - tau^2) / tau. For tau <= 0 the test may never fail; then 10 |w| / sqrt(d).
    """
    most = 10 * sqrt(square / d)
    across = sqrt(max(d - inner**2 / square, 0.0)) if square > 0 else 0.0
    if across == 0 or tau == 0:
        return min(most, -square / inner) if inner < 0 else 0.0
    k = sqrt(1 - tau * tau) / tau
    slope = across - k * inner / sqrt(square)
    size = k * sqrt(square) / slope if slope != 0 else inf
    return size if 0 <= size < most else most
