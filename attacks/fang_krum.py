"""Fang against Krum: step against the benign direction, as far as Krum still selects it.

Paper: Fang et al., "Local Model Poisoning Attacks to Byzantine-Robust Federated Learning",
USENIX Security 2020, Section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2
from typing import ClassVar

import numpy as np

from attacks import _checks
from attacks._krum import neighbours, picked
from attacks._rows import clones, mean
from fedalign.core.gram import gram, squared_distances
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class FangKrum:
    """All attackers send w_g - lambda s, s the sign of the mean benign update.

    lambda starts at the paper's upper bound and is halved until Krum would select the row; all
    halvings are judged at once on the Gram matrix. Where none is selected, the last is sent.
    stop: the search ends below this lambda, > 0.
    """

    stop: float = 1e-5
    knowledge: ClassVar[Knowledge] = Knowledge.FULL

    def __post_init__(self):
        _checks.in_range(self, "stop", self.stop, 0, open_low=True)

    def __call__(self, view: View) -> Crafted:
        rows = _checks.benign(self, view)
        signs = mean(rows).sign_()
        inner = gram(rows, signs)
        among = squared_distances(inner[:-1, :-1]).cpu().numpy()
        inner = inner.cpu().numpy()
        # The paper's clones differ by tiny noise; ours are equal, which Krum likes better.
        trials = self._trials(among, inner.diagonal()[:-1], rows.shape[1], view)
        far = inner.diagonal()[:-1] + trials[:, None] * (
            2 * inner[-1, :-1] + trials[:, None] * inner[-1, -1]
        )
        wins = np.flatnonzero(picked(among, np.maximum(far, 0), len(view.own), neighbours(view)))
        size = float(trials[wins[0]] if len(wins) else trials[-1])
        return Crafted(clones(signs.mul_(-size), len(view.own)), notes={"lambda": size})

    def _trials(
        self, among: np.ndarray, squares: np.ndarray, columns: int, view: View
    ) -> np.ndarray:
        """lambda_0 and its halvings down to `stop`, at least one."""
        m, n = len(view.own), view.clients
        nearest = np.sort(among, axis=1)[:, : max(1, n - m - 1)].sum(axis=1)  # itself is 0
        spread = np.sqrt(nearest.min() / (max(1, n - 2 * m - 1) * columns))
        first = float(spread + np.sqrt(squares.max() / columns))
        halvings = max(0, ceil(log2(first / self.stop))) if first > self.stop else 0
        return first * 0.5 ** np.arange(halvings + 1)
