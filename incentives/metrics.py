"""Metrics: who gets how much, how evenly, and whether everybody gains by taking part.

Papers: Jain et al., "A Quantitative Measure of Fairness", DEC TR-301, 1984; Gini, "Variabilità e
mutabilità", 1912; Theil, "Economics and Information Theory", 1967.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError

TOLERANCE = 1e-9  # a utility this little below 0 counts as no loss


@dataclass(frozen=True)
class Score:
    """A number, or NaN with the reason why there is none."""

    value: float
    reason: str = ""

    def __float__(self) -> float:
        return self.value


@dataclass(frozen=True)
class Rationality:
    """share: of those who do not lose by taking part, in [0, 1]. worst: the least utility."""

    share: float
    worst: float


@dataclass(frozen=True)
class Balance:
    """paid, deficit: paid beyond the budget, 0 where it holds. used: paid / budget, NaN at 0."""

    paid: float
    deficit: float
    used: float


def jain(values: Sequence[float]) -> Score:
    """(sum x)^2 / (n sum x^2): 1 where all are equal (all 0 too), 1/n where one has all."""
    x = _vector(values)
    if (x < 0).any():
        return _negative("Jain's index", x)
    top = x.max()
    if top == 0:
        return Score(1.0)
    x = x / top  # squares neither overflow nor vanish
    return Score(float(x.sum() ** 2 / (len(x) * (x**2).sum())))


def gini(values: Sequence[float]) -> Score:
    """sum_i (2i - n - 1) x_(i) / (n sum x), x sorted: 0 where all are equal, 1 - 1/n where one
    has all."""
    x = np.sort(_vector(values))
    if x[0] < 0:
        return _negative("The Gini index", x)
    if x[-1] == 0:
        return Score(0.0)
    x, n = x / x[-1], len(x)
    return Score(float((2 * np.arange(1, n + 1) - n - 1) @ x / (n * x.sum())))


def theil(values: Sequence[float]) -> Score:
    """mean of (x / mean) ln(x / mean): 0 where all are equal, ln n where one has all."""
    x = _vector(values)
    if (x < 0).any():
        return _negative("Theil's index", x)
    if not x.any():
        return Score(0.0)
    share = x / x.mean()
    return Score(float((share * np.log(np.where(share > 0, share, 1.0))).mean()))


def welfare(leader: float, followers: Sequence[float]) -> float:
    """What leader and followers earn together: payments cancel."""
    return float(leader + _vector(followers).sum())


def efficiency(achieved: float, optimal: float) -> Score:
    """Welfare over the social optimum's; the price of anarchy is its inverse."""
    if not optimal > 0:
        return Score(np.nan, f"The best welfare is {optimal:g}: there is nothing to share.")
    return Score(float(achieved / optimal))


def rationality(utilities: Sequence[float]) -> Rationality:
    """Who earns at least what staying away earns, 0."""
    u = _vector(utilities)
    return Rationality(float((u >= -TOLERANCE).mean()), float(u.min()))


def balance(payments: Sequence[float], budget: float) -> Balance:
    """Weak budget balance: payments <= budget."""
    paid = float(_vector(payments).sum())
    used = paid / budget if budget > 0 else np.nan
    return Balance(paid, max(0.0, paid - budget), used)


def spearman(payments: Sequence[float], contributions: Sequence[float]) -> Score:
    """Rank correlation of what is paid with what was contributed; ties share their mean rank."""
    from scipy.stats import rankdata

    x, y = _vector(payments), _vector(contributions)
    if len(x) != len(y):
        raise ConfigError(f"{len(x)} payments do not fit {len(y)} contributions.")
    x, y = rankdata(x), rankdata(y)
    x, y = x - x.mean(), y - y.mean()
    size = np.sqrt((x @ x) * (y @ y))
    if size == 0:
        return Score(np.nan, "All payments or all contributions are equal: they have no rank.")
    return Score(float(x @ y / size))


def envy(bundles: Iterable[Sequence[float]]) -> float:
    """The most that anybody would gain by taking another's effort and payment.

    bundles: for u = 0, 1 ...: (n,) what u would earn with each one's bundle, its own at place u.
    Read one by one, so that no (n, n) array need exist. 1e-9 or less is none.
    """
    most = max((float(np.max(row) - row[u]) for u, row in enumerate(bundles)), default=0.0)
    return most if most > TOLERANCE else 0.0


def _vector(values: Sequence[float]) -> np.ndarray:
    x = np.array(values, dtype=np.float64)
    if x.ndim != 1 or not x.size or not np.isfinite(x).all():
        raise ConfigError(f"A metric needs one vector of finite numbers, got {values!r}.")
    return x


def _negative(name: str, x: np.ndarray) -> Score:
    return Score(np.nan, f"{name} is undefined for negative values; the least is {x.min():g}.")
