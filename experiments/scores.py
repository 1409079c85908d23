"""Scores: what a run's columns say, one function per number; NaN where it was not measured.

Shares are in %, times in ms. "Attacked rounds" are the `attack_rounds` (None: all) from the
config's `attack_start` on in which malicious rows were sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from experiments.results import CellResult

LAST = 3  # a score is the mean of this many last rounds


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


def column(cell: CellResult, name: str) -> np.ndarray:
    found = cell.rounds.get(name)
    return np.full(len(cell.rounds.get("round", ())), np.nan) if found is None else found


def mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean(dtype=np.float64)) if len(values) else np.nan


def median(values: np.ndarray) -> float:
    """Of what was timed: a first call that compiles or imports does not count."""
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else np.nan


def largest(values: np.ndarray) -> float:
    return float(np.fmax.reduce(values)) if len(values) else np.nan


def last(name: str, scale: float = 1.0) -> Callable[[CellResult], float]:
    def score(cell: CellResult) -> float:
        values = column(cell, name)
        return scale * mean(values[~np.isnan(values)][-LAST:])

    return score


def round_s(cell: CellResult) -> float:
    """Measured seconds of a round, everything in it; the median: a first round imports."""
    return median(column(cell, "whole_s"))


def rows_per_second(cell: CellResult) -> float:
    return mean(column(cell, "arrived")) / round_s(cell)


def damage(cell: CellResult) -> float:
    """Score minus the accuracy in the round before the attack; if that was never evaluated (the
    attack is there from the start), minus the accuracy of the first round."""
    rounds, values = column(cell, "round"), column(cell, "accuracy")
    known = rounds[~np.isnan(values)]
    if not len(known):
        return np.nan
    before = known[known < attack_start(cell)]
    reference = before.max() if len(before) else known.min()
    return accuracy(cell) - 100.0 * float(values[rounds == reference][0])


def after(rounds: int) -> Callable[[CellResult], float]:
    """Accuracy in one round, counted from the first attacked one."""

    def score(cell: CellResult) -> float:
        at = column(cell, "round") == attack_start(cell) + rounds
        return 100.0 * mean(column(cell, "accuracy")[at])

    return score


def attacked_rounds(cell: CellResult) -> np.ndarray:  # (rounds,) bool
    rounds, start, length = column(cell, "round"), attack_start(cell), attack_length(cell)
    sent = column(cell, "malicious_sent") > 0
    return (rounds >= start) & (rounds < start + length) & sent & (attack_of(cell) != "none")


def accepted(cell: CellResult) -> float:
    attacked = attacked_rounds(cell)
    sent = np.nansum(column(cell, "malicious_sent")[attacked])
    taken = np.nansum(column(cell, "malicious_accepted")[attacked])
    return 100.0 * float(taken / sent) if sent > 0 else np.nan


def false_positives(cell: CellResult) -> float:
    during = column(cell, "round") >= attack_start(cell)
    sent = np.nansum(column(cell, "benign_sent")[during])
    taken = np.nansum(column(cell, "benign_accepted")[during])
    return 100.0 * float(1.0 - taken / sent) if sent > 0 else np.nan


def weight(cell: CellResult) -> float:
    return 100.0 * mean(column(cell, "malicious_weight")[attacked_rounds(cell)])


def crafting(cell: CellResult) -> float:
    seconds = column(cell, "craft_s")[attacked_rounds(cell)]
    return 1e3 * median(seconds[seconds > 0])


def per_round_ms(name: str) -> Callable[[CellResult], float]:
    return lambda cell: 1e3 * median(column(cell, name))


def total(name: str) -> Callable[[CellResult], float]:
    return lambda cell: float(np.nansum(column(cell, name))) if name in cell.rounds else np.nan


def paid_per_round(cell: CellResult) -> float:
    return mean(column(cell, "paid"))


def income(cell: CellResult) -> float:
    """What the attackers' clients get of all that is paid from the attack's start on."""
    during = column(cell, "round") >= attack_start(cell)
    paid = np.nansum(column(cell, "paid")[during])
    malicious = np.nansum(column(cell, "paid_malicious")[during])
    return 100.0 * float(malicious / paid) if paid > 0 else np.nan


def pay_spearman(cell: CellResult) -> float:
    """Of the sums up to the last round in which it was known."""
    values = column(cell, "pay_spearman")
    values = values[~np.isnan(values)]
    return float(values[-1]) if len(values) else np.nan


def seconds_per_round(cell: CellResult) -> float:
    """NaN where no client says how long it takes."""
    clock = column(cell, "clock_s")
    return float(clock[-1] / len(clock)) if len(clock) and clock[-1] > 0 else np.nan


def cost_per_point(cell: CellResult) -> float:
    """NaN where nothing is paid: unpaid work has no price, it is not the cheapest."""
    points, paid = accuracy(cell), total("paid")(cell)
    return paid / points if points > 0 and paid > 0 else np.nan


def final(name: str) -> Callable[[CellResult], float]:
    """After the last round: a language model that is tuned further is another model."""

    def score(cell: CellResult) -> float:
        values = column(cell, name)
        return float(values[-1]) if len(values) else np.nan

    return score


def reached(cell: CellResult) -> float:
    """The first round at the config's target_accuracy; one more than there are where none is."""
    values, target = column(cell, "accuracy"), cell.config.get("target_accuracy")
    if target is None or not len(values):
        return np.nan
    good = np.flatnonzero(values >= target)
    return float(good[0] + 1 if len(good) else len(values) + 1)


def seconds_to_target(cell: CellResult) -> float:
    """NaN where the target is not reached or nothing is timed."""
    clock, round = column(cell, "clock_s"), reached(cell)
    if np.isnan(round) or round > len(clock) or not clock[-1] > 0:
        return np.nan
    return float(clock[int(round) - 1])


def missed(cell: CellResult) -> float:
    sent, missing = column(cell, "arrived"), column(cell, "missing")
    rows = np.nansum(sent) + np.nansum(missing)
    return 100.0 * float(np.nansum(missing) / rows) if rows > 0 else np.nan


def leaderships(cell: CellResult) -> float:
    """Jain's index over the servers of the chain: 1 where all led equally often."""
    leaders = column(cell, "leader")
    leaders = leaders[~np.isnan(leaders)].astype(int)
    servers = int((cell.config.get("topology") or {}).get("edges", 1))
    counts = np.bincount(leaders, minlength=servers).astype(float)
    return float(counts.sum() ** 2 / (len(counts) * (counts**2).sum())) if len(leaders) else np.nan


def captured(cell: CellResult) -> float:
    return 100.0 * mean(column(cell, "led_by_liar"))


def consensus_share(cell: CellResult) -> float:
    """Consensus of all servers, in one process, against everything else that a round computes."""
    spent = np.nansum(column(cell, "consensus_cpu_s"))
    parts = ("train_s", "craft_s", "aggregate_s")  # agreeing is timed inside aggregate_s
    rest = sum(np.nansum(column(cell, part)) for part in parts) - spent
    return 100.0 * float(spent / rest) if spent > 0 and rest > 0 else np.nan


def liars_pay(cell: CellResult) -> float:
    paid = np.nansum(column(cell, "server_pay"))
    return 100.0 * float(np.nansum(column(cell, "liars_pay")) / paid) if paid > 0 else np.nan


accuracy = last("accuracy", 100.0)


def per_round(name: str, scale: float) -> Callable[[CellResult], float]:
    return lambda cell: scale * mean(column(cell, name))
