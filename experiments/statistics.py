"""Statistics: what seeds and attacks make of the runs' numbers.

Mean ± population standard deviation over seeds; the interquartile mean with stratified bootstrap
intervals from three seeds up (Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", NeurIPS 2021); the worst attack per defense; Faker's ratio columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.metrics import METRICS, Metric
from experiments.results import CellResult
from fedalign.core.seeds import Seeds

NO_ATTACK = "none"
REMOVED = "rejected"  # the control in which malicious rows are removed before the rule
CONTROLS = (
    "neg",
    "ipmfit",
    "random_sign",
    REMOVED,
)  # ours, for comparison: never "the best other attack"
SEEDS_FOR_INTERVAL = 3

Column = Mapping[str, Sequence[CellResult]]  # attack -> the runs of one defense under it


@dataclass(frozen=True)
class Interval:
    """An interquartile mean and its 95 % stratified bootstrap interval."""

    iqm: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """One metric of one cell of the grid over its seeds. by_seed: seed -> value, NaN left out."""

    by_seed: Mapping[int, float]

    @property
    def count(self) -> int:
        return len(self.by_seed)

    @property
    def values(self) -> np.ndarray:  # (seeds,) float64
        return np.array(list(self.by_seed.values()), dtype=np.float64)

    @property
    def mean(self) -> float:
        return float(self.values.mean()) if self.count else np.nan

    @property
    def std(self) -> float:
        """Over the population of seeds (divided by their number)."""
        return float(self.values.std()) if self.count else np.nan

    @property
    def interval(self) -> Interval | None:
        """None below three seeds."""
        return bootstrap([self.values])


def summarise(cells: Sequence[CellResult], metric: Metric) -> Scores:
    """One metric over the seeds of one cell of the grid."""
    values = {cell.seed: metric(cell) for cell in cells}
    return Scores({seed: v for seed, v in sorted(values.items()) if not np.isnan(v)})


def iqm(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean of what remains when floor(n/4) smallest and as many largest values are dropped."""
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=axis)
    n = ordered.shape[axis]
    kept = np.take(ordered, np.arange(n // 4, n - n // 4), axis=axis)
    return kept.mean(axis=axis)


def bootstrap(
    strata: Sequence[np.ndarray],
    *,
    rng: np.random.Generator | None = None,
    repetitions: int = 2000,
    level: float = 0.95,
) -> Interval | None:
    """The IQM of all strata together, resampling seeds within each stratum.

    strata: one (seeds,) array per attack. None where a stratum has fewer than three seeds. rng:
    default a fixed address, so the same numbers give the same interval.
    """
    if not strata or min(map(len, strata)) < SEEDS_FOR_INTERVAL:
        return None
    rng = rng or Seeds(0).at("bootstrap")
    drawn = [rows[rng.integers(len(rows), size=(repetitions, len(rows)))] for rows in strata]
    tail = 100.0 * (1.0 - level) / 2.0
    low, high = np.percentile(iqm(np.concatenate(drawn, axis=1)), [tail, 100.0 - tail])
    return Interval(float(iqm(np.concatenate(strata))), float(low), float(high))


@dataclass(frozen=True)
class Worst:
    """The attack under which a defense keeps the least accuracy, in %."""

    attack: str
    accuracy: Scores


@dataclass(frozen=True)
class Robustness:
    """One defense over all attacks. Controls are kept apart: they are no attack of any paper."""

    clean: Scores
    worst: Worst | None
    worst_control: Worst | None
    removed: Scores  # accuracy when malicious rows never reach the rule
    interval: Interval | None  # over attacks and seeds, controls excluded


def robustness(column: Column) -> Robustness:
    """The worst case and the IQM of one defense over its attacks."""
    accuracy = _accuracies(column)
    attacks = {a: s for a, s in accuracy.items() if a != NO_ATTACK and a not in CONTROLS}
    controls = {a: s for a, s in accuracy.items() if a in CONTROLS and a != REMOVED}
    return Robustness(
        clean=accuracy.get(NO_ATTACK, Scores({})),
        worst=_lowest(attacks),
        worst_control=_lowest(controls),
        removed=accuracy.get(REMOVED, Scores({})),
        interval=bootstrap([s.values for s in attacks.values()]),
    )


@dataclass(frozen=True)
class Rival:
    """An attack against one defense: points of accuracy it takes, ms it needs per round."""

    attack: str
    reduction: Scores
    craft_ms: float


@dataclass(frozen=True)
class FakerRatio:
    """The best Faker against the best other attack on one defense; None where not measured.

    reduction: Faker's accuracy reduction / the other's, NaN unless both are positive.
    time: the other's crafting time / Faker's, NaN unless both are positive.
    """

    faker: Rival | None
    other: Rival | None

    @property
    def reduction(self) -> float:
        if not self.faker or not self.other:
            return np.nan
        return _ratio(self.faker.reduction.mean, self.other.reduction.mean)

    @property
    def time(self) -> float:
        if not self.faker or not self.other:
            return np.nan
        return _ratio(self.other.craft_ms, self.faker.craft_ms)


def is_faker(attack: str) -> bool:
    """Whether an attack is one of Faker's modes or variants."""
    return attack.startswith("faker")


def faker_ratio(column: Column) -> FakerRatio:
    """Accuracy reduction = same rule unattacked minus attacked, paired by seed."""
    accuracy = _accuracies(column)
    clean = accuracy.get(NO_ATTACK, Scores({})).by_seed
    rivals = []
    for attack, attacked in accuracy.items():
        lost = {s: clean[s] - v for s, v in attacked.by_seed.items() if s in clean}
        if lost and attack != NO_ATTACK and attack not in CONTROLS:
            time = summarise(column[attack], METRICS["craft_ms"]).mean
            rivals.append(Rival(attack, Scores(lost), time))
    return FakerRatio(
        faker=_strongest([r for r in rivals if is_faker(r.attack)]),
        other=_strongest([r for r in rivals if not is_faker(r.attack)]),
    )


def _accuracies(column: Column) -> dict[str, Scores]:
    found = {a: summarise(cells, METRICS["accuracy"]) for a, cells in column.items()}
    return {attack: summary for attack, summary in found.items() if summary.count}


def _lowest(accuracy: Mapping[str, Scores]) -> Worst | None:
    if not accuracy:
        return None
    attack = min(accuracy, key=lambda a: accuracy[a].mean)  # ties: the first asked for
    return Worst(attack, accuracy[attack])


def _strongest(rivals: Sequence[Rival]) -> Rival | None:
    return max(rivals, key=lambda r: r.reduction.mean, default=None)  # ties: the first asked for


def _ratio(above: float, below: float) -> float:
    return above / below if above > 0 and below > 0 else np.nan
