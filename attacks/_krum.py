"""Krum simulated on distances alone: would it pick the attacker's clones?

With `copies` equal rows sent, a benign row's sum of its k nearest is the minimum over t of
"t clones and its k - t nearest benign rows": O(n m) per trial, no pass over the parameters.
"""

from __future__ import annotations

import numpy as np

from fedalign.core.threat import View


def neighbours(view: View) -> int:
    """k = n - f - 2 of Krum, at least 1; f is what the server assumes, else the attackers' m."""
    f = view.context.byzantine_count if view.context is not None else None
    return max(1, view.clients - (len(view.own) if f is None else f) - 2)


def picked(benign: np.ndarray, crafted: np.ndarray, copies: int, keep: int) -> np.ndarray:
    """Which of S candidate rows Krum would choose, (S,) bool; a tie counts as not chosen.

    benign: (b, b) squared distances among benign rows. crafted: (S, b) squared distances from
    each candidate to them. copies: how many attackers send the candidate. keep: Krum's k.
    """
    others = len(benign) - 1
    nearest = np.sort(benign + np.diag(np.full(len(benign), np.inf)), axis=1)[:, :others]
    sums = np.concatenate([np.zeros((len(benign), 1)), np.cumsum(nearest, axis=1)], axis=1)
    used = np.arange(max(0, keep - others), min(copies, keep) + 1)  # clones among the k nearest
    if len(used) == 0:  # fewer rows than k: everybody sums over everybody
        used, keep = np.array([copies]), others + copies
    honest = (crafted[:, :, None] * used + sums[:, keep - used]).min(axis=2)  # (S, b)
    own = np.sort(crafted, axis=1)[:, : max(0, keep - (copies - 1))].sum(axis=1)
    return own < honest.min(axis=1)
