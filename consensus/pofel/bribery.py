"""Bribery: what a coalition earns by voting for another candidate, in closed form.

Paper: none; our derivation (Bayesian Truth Serum with public evaluation: a coalition of share b
votes j', all others j; the others predict p for j and q for j', the coalition r for j, r' for j').

Floats: experiments and tests compare the exact scores with these; nothing that is hashed uses them.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, log

from fedalign.core.errors import ConfigError


def per_capita(
    b: float, p: float, q: float, r: float, r_own: float, alpha: float = 1.0
) -> tuple[float, float]:
    """(coalition, honest) scores of plain BTS for any predictions; 0 < b < 1.

    Collapsed to {winner, rest}: q = 1 - p and r_own = 1 - r. At alpha = 1 r_own cancels for the
    coalition, and the honest score is -b/(1-b) times the coalition's.
    """
    bribed = log(b) - (1 - b) * log(q) - b * log(r_own)
    bribed += alpha * ((1 - b) * log(r / (1 - b)) + b * log(r_own / b))
    honest = log(1 - b) - (1 - b) * log(p) - b * log(r)
    honest += alpha * ((1 - b) * log(p / (1 - b)) + b * log(q / b))
    return bribed, honest


def naive(b: float) -> float:
    """alpha = 1: votes for and predicts the briber's candidate (r = q, r' = p). < 0 below 1/2."""
    return (1 - b) * log(b / (1 - b))


def copycat(b: float, p: float, q: float) -> float:
    """alpha = 1: votes for the briber's candidate, predicts like the honest. > 0 iff p/q > (1-b)/b."""
    return (1 - b) * (log(b / (1 - b)) + log(p / q))


def calibrated(b: float, q: float) -> float:
    """Any alpha: predicts the true shares 1 - b and b. > 0 iff q < b."""
    return (1 - b) * log(b / q)


def best_prediction(b: float, alpha: float) -> float:
    """r*, what an optimal coalition predicts for the honest candidate; alpha >= 1."""
    if alpha < 1:
        raise ConfigError(
            f"Below alpha = 1 the coalition's payoff has no bound, got {alpha}: use alpha >= 1."
        )
    return alpha * (1 - b) / (alpha - b)


def optimal(b: float, q: float, alpha: float = 1.0) -> float:
    """The coalition's best payoff over its predictions; at alpha = 1 the limit r -> 1."""
    if alpha == inf:
        return calibrated(b, q)
    r = best_prediction(b, alpha)
    payoff = log(b / q) - b * log(b / q) + alpha * (1 - b) * log(r / (1 - b))
    if alpha > 1:
        payoff += (alpha - 1) * b * log((1 - r) / b)
    return payoff


def break_even_share(p: float, alpha: float = 1.0) -> float:
    """beta*: collapsed (q = 1 - p), a larger coalition profits. alpha = 1: q/(1+q); inf: q."""
    return _root(lambda b: optimal(b, 1 - p, alpha), 1e-9, 0.5 + 1e-9)


def anchored_compliance(p: float = 0.6, cap: float = 0.9, alpha: float = 1.0) -> float:
    """Anchored: everybody votes the winner and predicts it at the cap or above."""
    return log(1 / p) - alpha * log(1 / cap)


def anchored_deviation(b: float, p: float = 0.6) -> float:
    """Anchored: no coalition of weight share b < 1/2 scores more per capita than this."""
    return log(b / (1 - p))


def anchored_loss(b: float, p: float = 0.6, cap: float = 0.9, alpha: float = 1.0) -> float:
    """What a deviating member loses at least: ln((1-p)/(p b)) - alpha ln(1/cap)."""
    return anchored_compliance(p, cap, alpha) - anchored_deviation(b, p)


def outscored_below(p: float = 0.6, predicted: float = 0.9, alpha: float = 1.0) -> float:
    """Anchored, the coalition knowing the shares: honest servers that count as predicting
    `predicted` (their own word, or the cap) outscore it for every share below this."""

    def behind(b: float) -> float:
        divergence = (1 - b) * log((1 - b) / predicted) + b * log(b / (1 - predicted))
        return alpha * divergence - log((1 - b) * (1 - p) / (p * b))

    return _root(behind, 1 - predicted, 0.5)


def break_even_bribe(
    b: float, unit_per_nat: float, p: float = 0.6, cap: float = 0.9, alpha: float = 1.0
) -> float:
    """The least bribe per vote, in units, before the loss of weight: unit_per_nat · the loss."""
    return unit_per_nat * max(anchored_loss(b, p, cap, alpha), 0.0)


def _root(rises: Callable[[float], float], low: float, high: float) -> float:
    """Where an increasing function of [low, high] passes 0."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) < 0 else (low, middle)
    return (low + high) / 2
