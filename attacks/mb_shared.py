"""MB with one shared scalar: the own row scaled, as far towards its opposite as accepted.

Paper: Wang et al., "Can We Trust the Similarity Measurement in Federated Learning?",
arXiv 2311.03369, Section 6 (benchmark "MB", after Shejwalkar and Houmansadr, NDSS 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from attacks import _checks
from attacks._rows import mean
from attacks._trial import accepted
from fedalign.core.gram import gram
from fedalign.core.threat import Crafted, Knowledge, View

STRONGEST = 10.0  # the rule-aware form tries lambda = -10 ... -0.1


@dataclass(frozen=True)
class MbShared:
    """w' = lambda w in view.space, one lambda for all parameters.

    proxy: distance, as published: the smallest lambda with |w' - mean| <= max_i |w_i - mean|
    over the benign rows, whatever the rule tests; or rule: of `steps` values from -10 to -0.1
    the one with the largest (1 - lambda) times the number of rows the rule itself accepts.
    search: closed, the root of the quadratic; published, `steps` bisections with a pass each.
    Where no lambda below 1 passes, the honest row is sent. steps: >= 2.
    """

    proxy: Literal["distance", "rule"] = "distance"
    search: Literal["closed", "published"] = "closed"
    steps: int = 40

    def __post_init__(self):
        _checks.one_of(self, "proxy", self.proxy, ("distance", "rule"))
        _checks.one_of(self, "search", self.search, ("closed", "published"))
        _checks.in_range(self, "steps", self.steps, 2)

    @property
    def knowledge(self) -> Knowledge:
        return Knowledge.FULL if self.proxy == "rule" else Knowledge.UPDATES

    def __call__(self, view: View) -> Crafted:
        honest = view.in_space(view.own)
        rows = _checks.benign(self, view)
        if self.proxy == "rule":
            sizes = [self._asked(view, honest, rows)] * len(honest)
        elif self.search == "published":
            sizes = self._searched(honest, view.in_space(rows))
        else:
            sizes = _roots(view, honest, rows)
        scaled = honest * torch.tensor(sizes).to(honest)[:, None]
        return Crafted(view.as_updates(scaled), notes={"lambda": sizes})

    def _asked(self, view: View, honest: Tensor, rows: Tensor) -> float:
        best, size = 0.0, 1.0
        for trial in -np.geomspace(STRONGEST, STRONGEST / 100, self.steps):
            if best >= (1 - trial) * len(honest):
                break  # weaker values cannot gain any more
            count = accepted(view, rows, view.as_updates(honest * float(trial)))
            if (1 - trial) * count > best:
                best, size = (1 - trial) * count, float(trial)
        return size

    def _searched(self, honest: Tensor, rows: Tensor) -> list[float]:
        """Bisect between -10 and 1, testing the whole row on every step."""
        centre = rows.mean(dim=0)
        widest = (rows - centre).norm(dim=1).max()
        sizes = []
        for own in honest:
            low, high = -STRONGEST, 1.0
            for _ in range(self.steps):
                middle = (low + high) / 2
                passes = bool((own * middle - centre).norm() <= widest)
                low, high = (low, middle) if passes else (middle, high)
            sizes.append(high)
        return sizes


def _roots(view: View, honest: Tensor, rows: Tensor) -> list[float]:
    """The smaller root of E l^2 - 2 <w, c> l + |c|^2 - D^2 = 0 for each w; 1 where there is none.

    With e = w - c all terms come from one Gram pass around the centre c.
    """
    centre = mean(rows)
    origin = view.in_space(centre[None])[0]
    benign = view.in_space(rows)
    inner = gram(benign, honest, torch.zeros_like(origin), origin=origin).cpu().numpy()
    b = len(benign)
    widest, opposite = inner.diagonal()[:b].max(), inner[-1, -1]  # -c, |c|^2
    sizes = []
    for i in range(b, b + len(honest)):
        # w = (w - c) - (-c); <w, c> = |c|^2 - <w - c, -c>
        square = inner[i, i] - 2 * inner[i, -1] + opposite
        cross = opposite - inner[i, -1]
        rest = cross**2 - square * (opposite - widest)
        sizes.append(min(float((cross - sqrt(rest)) / square), 1.0) if rest >= 0 < square else 1.0)
    return sizes
