"""Over-optimisation: how gold reward rises and falls with the distance from the base model.

Paper: Gao et al., "Scaling Laws for Reward Model Overoptimization", ICML 2023, Section 3: d is the
root of the KL to the base model, and reinforcement learning gains d (alpha - beta log d).
"""

from __future__ import annotations

import numpy as np

from experiments.results import CellResult
from experiments.scores import column

Curve = tuple[np.ndarray, np.ndarray]


def curve(cell: CellResult) -> Curve:
    """d and gold reward, first of the base model (d = 0), then after every round that has both;
    empty where there is no gold reward."""
    away, gold = np.sqrt(np.maximum(column(cell, "kl_ref_k3"), 0)), column(cell, "gold_reward")
    measured = ~(np.isnan(away) | np.isnan(gold))
    if not measured.any():
        return np.zeros(0), np.zeros(0)
    base = (gold - column(cell, "gold_gain"))[measured][0]
    return np.r_[0.0, away[measured]], np.r_[base, gold[measured]]


def peak(cell: CellResult) -> float:
    """The highest gold reward on the way."""
    gold = curve(cell)[1]
    return float(gold.max()) if len(gold) else np.nan


def peak_distance(cell: CellResult) -> float:
    """d where it is highest."""
    away, gold = curve(cell)
    return float(away[gold.argmax()]) if len(gold) else np.nan


def largest_distance(cell: CellResult) -> float:
    away = curve(cell)[0]
    return float(away.max()) if len(away) else np.nan


def drop(cell: CellResult) -> float:
    """From the peak to where d is largest."""
    away, gold = curve(cell)
    return float(gold.max() - gold[away.argmax()]) if len(gold) else np.nan


def fitted(cell: CellResult) -> tuple[float, float]:
    """alpha and beta by least squares over the rounds; NaN with fewer than three."""
    away, gold = curve(cell)
    away, gain = away[1:], gold[1:] - gold[:1]
    if len(np.unique(away[away > 0])) < 3:
        return np.nan, np.nan
    away, gain = away[away > 0], gain[away > 0]
    found = np.linalg.lstsq(np.stack([away, -away * np.log(away)], axis=1), gain, rcond=None)[0]
    return float(found[0]), float(found[1])
