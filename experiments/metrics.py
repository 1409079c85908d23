"""Metrics: one number per run, from the columns of its rounds.

Shares are in %, times in ms. What a run did not measure is NaN, which every table shows as n/a.
"Attacked rounds" are the `attack_rounds` (None: all) from the config's `attack_start` on in which
malicious rows were sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from experiments.results import CellResult
from fedalign.core.errors import UnknownNameError

LAST = 3  # a score is the mean of this many last rounds


@dataclass(frozen=True)
class Metric:
    """A named number of a run.

    label: how a caption calls it, unit included. better: what a defender wants of it, None where
    neither. digits: after the point, in tables. of: CellResult -> float, NaN where not measured.
    """

    name: str
    label: str
    better: Literal["high", "low"] | None
    digits: int
    of: Callable[[CellResult], float]

    def __call__(self, cell: CellResult) -> float:
        return self.of(cell) if cell.status == "done" else np.nan


def metric(name: str) -> Metric:
    """The metric of that name, or an UnknownNameError listing all."""
    if name not in METRICS:
        raise UnknownNameError("metric", name, METRICS)
    return METRICS[name]


def attack_start(cell: CellResult) -> int:
    """The attack's first round, counted from 1."""
    return max(1, int(cell.config.get("attack_start") or 1))


def attack_length(cell: CellResult) -> float:
    """For how many rounds it is attacked; inf where the attack never ends."""
    length = cell.config.get("attack_rounds")
    return np.inf if length is None else float(length)


def attack_of(cell: CellResult) -> str:
    """The attack's name: its place in the grid or its option, else the module its config names."""
    asked = cell.axes.get("attack") or cell.choices.get("attack") or cell.config.get("attack") or ""
    target = asked.get("_target_", "") if isinstance(asked, Mapping) else ""
    return target.split(".")[-2] if target.count(".") > 1 else str(asked)


def _column(cell: CellResult, name: str) -> np.ndarray:
    found = cell.rounds.get(name)
    return np.full(len(cell.rounds.get("round", ())), np.nan) if found is None else found


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean(dtype=np.float64)) if len(values) else np.nan


def _median(values: np.ndarray) -> float:
    """Of what was timed: a first call that compiles or imports does not count."""
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else np.nan


def _largest(values: np.ndarray) -> float:
    return float(np.fmax.reduce(values)) if len(values) else np.nan


def _last(name: str, scale: float = 1.0) -> Callable[[CellResult], float]:
    def score(cell: CellResult) -> float:
        values = _column(cell, name)
        return scale * _mean(values[~np.isnan(values)][-LAST:])

    return score


def _damage(cell: CellResult) -> float:
    """Score minus the accuracy in the round before the attack; if that was never evaluated (the
    attack is there from the start), minus the accuracy of the first round."""
    rounds, accuracy = _column(cell, "round"), _column(cell, "accuracy")
    known = rounds[~np.isnan(accuracy)]
    if not len(known):
        return np.nan
    before = known[known < attack_start(cell)]
    reference = before.max() if len(before) else known.min()
    return _accuracy(cell) - 100.0 * float(accuracy[rounds == reference][0])


def _after(rounds: int) -> Callable[[CellResult], float]:
    """Accuracy in one round, counted from the first attacked one."""

    def score(cell: CellResult) -> float:
        at = _column(cell, "round") == attack_start(cell) + rounds
        return 100.0 * _mean(_column(cell, "accuracy")[at])

    return score


def _attacked(cell: CellResult) -> np.ndarray:  # (rounds,) bool
    rounds, start, length = _column(cell, "round"), attack_start(cell), attack_length(cell)
    sent = _column(cell, "malicious_sent") > 0
    return (rounds >= start) & (rounds < start + length) & sent & (attack_of(cell) != "none")


def _accepted(cell: CellResult) -> float:
    attacked = _attacked(cell)
    sent = np.nansum(_column(cell, "malicious_sent")[attacked])
    taken = np.nansum(_column(cell, "malicious_accepted")[attacked])
    return 100.0 * float(taken / sent) if sent > 0 else np.nan


def _false_positives(cell: CellResult) -> float:
    during = _column(cell, "round") >= attack_start(cell)
    sent = np.nansum(_column(cell, "benign_sent")[during])
    taken = np.nansum(_column(cell, "benign_accepted")[during])
    return 100.0 * float(1.0 - taken / sent) if sent > 0 else np.nan


def _weight(cell: CellResult) -> float:
    return 100.0 * _mean(_column(cell, "malicious_weight")[_attacked(cell)])


def _crafting(cell: CellResult) -> float:
    seconds = _column(cell, "craft_s")[_attacked(cell)]
    return 1e3 * _median(seconds[seconds > 0])


def _per_round_ms(name: str) -> Callable[[CellResult], float]:
    return lambda cell: 1e3 * _median(_column(cell, name))


def _total(name: str) -> Callable[[CellResult], float]:
    return lambda cell: float(np.nansum(_column(cell, name))) if name in cell.rounds else np.nan


def _paid_per_round(cell: CellResult) -> float:
    return _mean(_column(cell, "paid"))


def _income(cell: CellResult) -> float:
    """What the attackers' clients get of all that is paid from the attack's start on."""
    during = _column(cell, "round") >= attack_start(cell)
    paid = np.nansum(_column(cell, "paid")[during])
    malicious = np.nansum(_column(cell, "paid_malicious")[during])
    return 100.0 * float(malicious / paid) if paid > 0 else np.nan


def _pay_spearman(cell: CellResult) -> float:
    """Of the sums up to the last round in which it was known."""
    values = _column(cell, "pay_spearman")
    values = values[~np.isnan(values)]
    return float(values[-1]) if len(values) else np.nan


def _seconds_per_round(cell: CellResult) -> float:
    """NaN where no client says how long it takes."""
    clock = _column(cell, "clock_s")
    return float(clock[-1] / len(clock)) if len(clock) and clock[-1] > 0 else np.nan


def _cost_per_point(cell: CellResult) -> float:
    """NaN where nothing is paid: unpaid work has no price, it is not the cheapest."""
    points, paid = _accuracy(cell), _total("paid")(cell)
    return paid / points if points > 0 and paid > 0 else np.nan


def _final(name: str) -> Callable[[CellResult], float]:
    """After the last round: a language model that is tuned further is another model."""

    def score(cell: CellResult) -> float:
        values = _column(cell, name)
        return float(values[-1]) if len(values) else np.nan

    return score


def _reached(cell: CellResult) -> float:
    """The first round at the config's target_accuracy; one more than there are where none is."""
    accuracy, target = _column(cell, "accuracy"), cell.config.get("target_accuracy")
    if target is None or not len(accuracy):
        return np.nan
    good = np.flatnonzero(accuracy >= target)
    return float(good[0] + 1 if len(good) else len(accuracy) + 1)


def _seconds_to_target(cell: CellResult) -> float:
    """NaN where the target is not reached or nothing is timed."""
    clock, round = _column(cell, "clock_s"), _reached(cell)
    if np.isnan(round) or round > len(clock) or not clock[-1] > 0:
        return np.nan
    return float(clock[int(round) - 1])


def _missed(cell: CellResult) -> float:
    sent, missing = _column(cell, "arrived"), _column(cell, "missing")
    total = np.nansum(sent) + np.nansum(missing)
    return 100.0 * float(np.nansum(missing) / total) if total > 0 else np.nan


def _leaderships(cell: CellResult) -> float:
    """Jain's index over the servers of the chain: 1 where all led equally often."""
    leaders = _column(cell, "leader")
    leaders = leaders[~np.isnan(leaders)].astype(int)
    servers = int((cell.config.get("topology") or {}).get("edges", 1))
    counts = np.bincount(leaders, minlength=servers).astype(float)
    return float(counts.sum() ** 2 / (len(counts) * (counts**2).sum())) if len(leaders) else np.nan


def _captured(cell: CellResult) -> float:
    return 100.0 * _mean(_column(cell, "led_by_liar"))


def _liars_pay(cell: CellResult) -> float:
    paid = np.nansum(_column(cell, "server_pay"))
    return 100.0 * float(np.nansum(_column(cell, "liars_pay")) / paid) if paid > 0 else np.nan


_accuracy = _last("accuracy", 100.0)

_SEALED: Sequence[tuple[str, str, Literal["high", "low"] | None, int, float]] = (
    ("messages", "messages between servers per round", "low", 0, 1.0),
    ("control_bytes", "kilobytes of control messages between servers per round", "low", 1, 1e-3),
    ("model_bytes", "kilobytes of models between servers per round", "low", 1, 1e-3),
    ("consensus_s", "simulated seconds of consensus per round", "low", 3, 1.0),
    ("consensus_cpu_s", "CPU seconds of consensus per round, all servers", "low", 3, 1.0),
    (
        "consensus_joules",
        "joules of consensus per round (8 W a busy core, 5e-8 J a byte)",
        "low",
        2,
        1.0,
    ),
    ("strikes", "strikes per round", None, 2, 1.0),
    ("aborted", "chain rounds without a block per round", "low", 2, 1.0),
)  # name and column, label, better, digits, scale; means over rounds


def _per_round(name: str, scale: float) -> Callable[[CellResult], float]:
    return lambda cell: scale * _mean(_column(cell, name))


_TEXT: Sequence[tuple[str, str, Literal["high", "low"] | None, int]] = (
    ("gold_reward", "mean gold reward of sampled answers", "high", 2),
    ("gold_gain", "gold reward gained on the base model", "high", 2),
    ("win_rate", "share of prompts won against the base model, ties one half", "high", 3),
    ("win_low", "lower end of the win rate's 95 % bootstrap interval", "high", 3),
    ("win_high", "upper end of the win rate's 95 % bootstrap interval", "high", 3),
    ("kl_ref", "KL to the base model in nats per answer", None, 2),
    ("kl_ref_k3", "the same KL by its non-negative estimator", None, 2),
    ("payload_bytes", "bytes per client, round and direction", "low", 0),
    ("length_mean", "tokens per answer", None, 1),
    ("eos_rate", "share of answers that end", "high", 3),
    ("distinct_2", "share of different pairs of neighbouring tokens", None, 4),
    ("over_refusal", "share of ordinary prompts that are refused", "low", 3),
    ("harmful_compliance", "share of prompts to be refused that are answered", "low", 3),
    ("success_clean", "attack success without the trigger (share)", "low", 3),
    ("rm_accuracy", "accuracy of the reward model against the gold order", "high", 3),
    ("rm_accuracy_label", "accuracy of the reward model on noisy labels", "high", 3),
    ("bayes_ceiling", "best possible accuracy on these noisy labels", None, 3),
    ("rm_attr_mae", "mean error of predicted ratings", "low", 3),
)  # name, label, better, digits

METRICS: Mapping[str, Metric] = {
    m.name: m
    for m in (
        Metric("accuracy", f"accuracy in %, mean of the last {LAST} rounds", "high", 1, _accuracy),
        Metric(
            "error",
            f"error in % (100 - accuracy), mean of the last {LAST} rounds",
            "low",
            1,
            lambda cell: 100.0 - _accuracy(cell),
        ),
        Metric(
            "best_accuracy",
            "best accuracy of any round in %",
            "high",
            1,
            lambda cell: 100.0 * _largest(_column(cell, "accuracy")),
        ),
        Metric("loss", f"test loss, mean of the last {LAST} rounds", "low", 3, _last("loss")),
        Metric(
            "attack_success",
            f"attack success in %, mean of the last {LAST} rounds",
            "low",
            1,
            _last("attack_success", 100.0),
        ),
        Metric(
            "damage",
            "accuracy at the end minus accuracy before the attack began (in round 1 where it was "
            "there from the start) in points",
            "high",
            1,
            _damage,
        ),
        Metric("accuracy_t0", "accuracy in the first attacked round in %", "high", 1, _after(0)),
        Metric(
            "accuracy_t0_5",
            "accuracy five rounds after the first attacked one in %",
            "high",
            1,
            _after(5),
        ),
        Metric("accepted", "malicious rows accepted in %", "low", 0, _accepted),
        Metric(
            "tpr",
            "detection TPR in % (malicious rows rejected)",
            "high",
            0,
            lambda cell: 100.0 - _accepted(cell),
        ),
        Metric("fpr", "detection FPR in % (benign rows rejected)", "low", 0, _false_positives),
        Metric(
            "weight", "share of malicious rows in the aggregate's weight in %", "low", 1, _weight
        ),
        Metric("craft_ms", "crafting time per attacked round in ms", None, 2, _crafting),
        Metric(
            "aggregate_ms",
            "aggregation time per round in ms",
            "low",
            2,
            _per_round_ms("aggregate_s"),
        ),
        Metric("train_ms", "training time per round in ms", None, 1, _per_round_ms("train_s")),
        Metric("paid", "paid per round in base units", None, 0, _paid_per_round),
        Metric(
            "attacker_income",
            "income of the attackers' clients in % of what is paid",
            "low",
            1,
            _income,
        ),
        Metric(
            "pay_spearman",
            "rank correlation of pay with contribution on test data",
            "high",
            2,
            _pay_spearman,
        ),
        *(Metric(*told, _per_round(told[0], scale)) for *told, scale in _SEALED),
        Metric(
            "overturned",
            "rounds led by another server than honest votes favour in %",
            "low",
            0,
            lambda cell: 100.0 * _mean(_column(cell, "overturned")),
        ),
        Metric("captured", "rounds led by a lying server in %", "low", 0, _captured),
        Metric(
            "liars_pay", "share of the servers' rewards that liars get in %", "low", 1, _liars_pay
        ),
        Metric("leader_jain", "Jain's index of leaderships", "high", 2, _leaderships),
        Metric("seconds_per_round", "simulated seconds per round", "low", 1, _seconds_per_round),
        Metric(
            "rounds_to_target",
            "rounds until target_accuracy is reached (never: all rounds and one more)",
            "low",
            1,
            _reached,
        ),
        Metric(
            "seconds_to_target",
            "simulated seconds until target_accuracy is reached, over the runs that reach it",
            "low",
            1,
            _seconds_to_target,
        ),
        Metric("missed", "rows that did not arrive in time in %", "low", 1, _missed),
        Metric("joules", "simulated joules of all devices, all rounds", "low", 1, _total("joules")),
        Metric(
            "cost_per_point",
            "base units paid in all rounds per point of final accuracy",
            "low",
            0,
            _cost_per_point,
        ),
        Metric("nonfinite", "rows with NaN or Inf, all rounds", "low", 0, _total("nonfinite")),
        Metric("failed", "client failures, all rounds", "low", 0, _total("failed")),
        Metric("skipped", "rounds in which no row was accepted", "low", 0, _total("skipped")),
        *(
            Metric(name, f"{said}, last round", *shown, _final(name))
            for name, said, *shown in _TEXT
        ),
    )
}
